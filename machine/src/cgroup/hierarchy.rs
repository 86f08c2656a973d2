//! Where this process's own groups are, in each hierarchy that is mounted.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Controller, v2};

/// A mounted hierarchy and this process's place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    /// Version 1: its controllers; version 2: none.
    controllers: Vec<String>,
    unified: bool,
    /// The directory of this process's own group.
    own: PathBuf,
    /// The mount point, above which there is nothing.
    top: PathBuf,
}

/// All mounted hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchies(Vec<Hierarchy>);

impl Hierarchies {
    /// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`. Without them there are no groups, which the limits' report says.
    pub(crate) fn find() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    pub(super) fn parse(mounts: &str, own: &str) -> Self {
        let mut found = Vec::new();
        for line in mounts.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let mut left = left.split(' ').skip(3);
            let (Some(root), Some(top)) = (left.next(), left.next()) else { continue };
            let mut right = right.split(' ');
            let (Some(kind), Some(_), Some(options)) = (right.next(), right.next(), right.next()) else {
                continue;
            };
            let unified = kind == "cgroup2";
            if !unified && kind != "cgroup" {
                continue;
            }
            let options: Vec<&str> = options.split(',').collect();
            let Some((controllers, path)) = own_group(own, unified, &options) else { continue };
            // A bind mount or a cgroup namespace shows only a part of the hierarchy, and this group may be outside it.
            let Ok(below) = Path::new(&path).strip_prefix(root) else { continue };
            if below.components().any(|component| component == std::path::Component::ParentDir) {
                continue;
            }
            let top = PathBuf::from(top);
            found.push(Hierarchy { controllers, unified, own: top.join(below), top });
        }
        Self(found)
    }

    /// The group below which a machine's group for a controller goes, or why there is none.
    pub(super) fn parent_for(&self, controller: &str) -> Result<Controller, String> {
        if let Some(hierarchy) = self.0.iter().find(|h| h.controllers.iter().any(|has| has == controller)) {
            return Ok(Controller::V1(hierarchy.own.clone()));
        }
        let Some(hierarchy) = self.0.iter().find(|hierarchy| hierarchy.unified) else {
            return Err(format!("no hierarchy with the {controller} controller is mounted in sight"));
        };
        let mut reason = format!("the unified hierarchy has no {controller} controller here");
        for group in hierarchy.candidates() {
            let has = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
            if !has.split_whitespace().any(|word| word == controller) {
                continue;
            }
            match v2::give_to_children(group, controller) {
                Ok(()) => return Ok(Controller::V2(group.to_owned())),
                Err(error) => {
                    reason = format!(
                        "{error}; run the node as root, or under systemd with Delegate=yes and DelegateSubgroup=node"
                    );
                }
            }
        }
        Err(reason)
    }

    /// The unified hierarchy, whatever its controllers.
    pub(super) fn unified(&self) -> Result<Controller, String> {
        let hierarchy =
            self.0.iter().find(|hierarchy| hierarchy.unified).ok_or("no unified hierarchy is mounted")?;
        Ok(Controller::V2(hierarchy.own.clone()))
    }

    /// Every group below which a machine's group may be made.
    pub(super) fn parents(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().flat_map(Hierarchy::candidates)
    }
}

impl Hierarchy {
    /// The own group; and in the unified hierarchy the one above, because a group with processes cannot give controllers to
    /// children, so a delegated daemon sits in a subgroup of what it was delegated.
    fn candidates(&self) -> impl Iterator<Item = &Path> {
        let above = self.own.parent().filter(|above| self.unified && above.starts_with(&self.top));
        std::iter::once(self.own.as_path()).chain(above)
    }
}

/// The line of `/proc/self/cgroup` that belongs to a mount: its controllers and path.
fn own_group(own: &str, unified: bool, options: &[&str]) -> Option<(Vec<String>, String)> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if unified {
            return controllers.is_empty().then(|| (Vec::new(), path.to_owned()));
        }
        let controllers: Vec<String> =
            controllers.split(',').filter(|c| !c.is_empty()).map(str::to_owned).collect();
        let same = !controllers.is_empty()
            && controllers.iter().all(|controller| options.contains(&controller.as_str()));
        same.then(|| (controllers, path.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 0:20 / /proc rw - proc proc rw
30 22 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 22 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 22 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
33 22 0:29 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
34 22 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
    const OWN: &str = "5:pids:/docker/abc/x\n4:memory:/a/b\n3:cpu,cpuacct:/\n2:name=systemd:/\n0::/c/d\n";

    #[test]
    fn each_hierarchy_has_this_processs_own_group() {
        let found = Hierarchies::parse(MOUNTS, OWN);
        let path = |controller| match found.parent_for(controller).unwrap() {
            Controller::V1(path) => path,
            Controller::V2(_) => panic!("version 1 is preferred"),
        };
        assert_eq!(path("memory"), Path::new("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(path("cpuacct"), Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(path("pids"), Path::new("/sys/fs/cgroup/pids/x"));
        assert!(found.parent_for("freezer").is_err());
        let parents: Vec<_> = found.parents().collect();
        assert!(parents.contains(&Path::new("/sys/fs/cgroup/unified/c/d")));
        assert!(parents.contains(&Path::new("/sys/fs/cgroup/unified/c")));
    }

    #[test]
    fn a_group_outside_the_mount_is_not_used() {
        let mounts = "33 22 0:29 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        assert!(Hierarchies::parse(mounts, "5:pids:/elsewhere\n").parent_for("pids").is_err());
        assert!(Hierarchies::parse("", "").parent_for("pids").is_err());
    }
}
