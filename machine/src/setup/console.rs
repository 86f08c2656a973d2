//! Terminals on the machine's own devpts.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::session::WinSize;

/// Opens a terminal: the side that the keeper holds, and the side of the program. Must run inside the machine.
pub(crate) fn open(size: Option<WinSize>) -> io::Result<(OwnedFd, OwnedFd)> {
    let holder: OwnedFd = File::options().read(true).write(true).open("/dev/pts/ptmx")?.into();
    unlockpt(&holder)?;
    let program = ioctl_tiocgptpeer(&holder, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    set_size(&holder, size.unwrap_or(WinSize { rows: 24, columns: 80 }))?;
    Ok((holder, program))
}

/// Tells a terminal its size.
pub(crate) fn set_size(terminal: &OwnedFd, size: WinSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}
