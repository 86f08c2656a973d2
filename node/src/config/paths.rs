//! Where things are when nobody says where: the state directory, and the socket in it.
//!
//! Root's node keeps its state in `/var/lib/consort`; a user's in `$XDG_STATE_HOME/consort`, else `~/.local/state/consort`.
//! A command finds its daemon by `--socket`, then `CONSORT_SOCKET` (both arrive as one argument), else the socket in that directory.

use std::path::{Path, PathBuf};

/// The name of the API's socket in a state directory.
pub const SOCKET_NAME: &str = "consort.sock";

/// The most bytes a Unix socket's path may have: `sun_path` is 108 bytes with its closing zero (unix(7)).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The state directory when none is given.
#[must_use]
pub fn default_state_dir() -> PathBuf {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let xdg = std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    state_dir_for(rustix::process::geteuid().is_root(), xdg, home)
}

fn state_dir_for(root: bool, xdg_state_home: Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    if root {
        return PathBuf::from("/var/lib/consort");
    }
    match (xdg_state_home, home) {
        (Some(dir), _) => dir.join("consort"),
        (None, Some(home)) => home.join(".local/state/consort"),
        (None, None) => PathBuf::from("/var/lib/consort"),
    }
}

/// The API's socket of the node whose state is in `state_dir`.
#[must_use]
pub fn socket_in(state_dir: &Path) -> PathBuf {
    state_dir.join(SOCKET_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_user_have_their_own_default() {
        let home = Some(PathBuf::from("/home/ada"));
        assert_eq!(state_dir_for(true, None, home.clone()), Path::new("/var/lib/consort"));
        assert_eq!(state_dir_for(false, None, home.clone()), Path::new("/home/ada/.local/state/consort"));
        assert_eq!(state_dir_for(false, Some(PathBuf::from("/xdg")), home), Path::new("/xdg/consort"));
    }
}
