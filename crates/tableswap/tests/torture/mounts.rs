//! File systems of a test's own, which needs root: ext4 in a file, or on a disk that is recorded.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::fuse;
use crate::recording::Recording;

/// Blocks of the usual size, and nothing that a small disk has no room for.
const MKFS: [&str; 7] = ["-q", "-F", "-b", "4096", "-m", "0", "-O^resize_inode"];

/// A mounted ext4, unmounted when it is dropped.
pub(crate) struct Mount {
    dir: tempfile::TempDir,
    /// The loop device, where the mount does not bring its own.
    device: Option<String>,
    /// The FUSE file system below the device, and the thread that serves it.
    below: Option<(tempfile::TempDir, JoinHandle<()>)>,
}

impl Mount {
    /// An ext4 in an image file that has one already, such as a copy after a power cut.
    pub(crate) fn image(image: &Path) -> Result<Mount, String> {
        sweep();
        let dir = mount_point();
        try_run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(image).arg(dir.path()))?;
        Ok(Mount { dir, device: None, below: None })
    }

    /// A new ext4 in an image file.
    pub(crate) fn new_image(image: &Path, bytes: u64) -> Mount {
        File::create(image).unwrap().set_len(bytes).unwrap();
        run(Command::new("mkfs.ext4").args(MKFS).arg(image));
        Mount::image(image).unwrap()
    }

    /// A new ext4 on a disk that is recorded. It writes what it has every second, not every five, so that more
    /// states reach the disk, and it does not rescue programs that rename a file without a sync
    /// (`noauto_da_alloc`), as other file systems do not either.
    pub(crate) fn recorded(recording: &Arc<Recording>) -> Mount {
        sweep();
        let below = mount_point();
        let fuse = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        // The kernel learns of the connection by its number in the process that mounts.
        run(Command::new("mount")
            .args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0", "recorded"])
            .arg(below.path())
            .stdin(Stdio::from(fuse.try_clone().unwrap())));
        let disk = Arc::clone(recording);
        let server = std::thread::spawn(move || fuse::serve(fuse, disk.as_ref()));
        let file = below.path().join(fuse::FILE);
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(file));
        run(Command::new("mkfs.ext4").args(MKFS).args(["-E", "nodiscard"]).arg(&device));
        let dir = mount_point();
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "noauto_da_alloc,commit=1", &device])
            .arg(dir.path()));
        Mount { dir, device: Some(device), below: Some((below, server)) }
    }

    /// The groups of processes that the kernel can limit processors for: of the second form, or of the first.
    pub(crate) fn cgroup_of_processors() -> Mount {
        sweep();
        let dir = mount_point();
        let mount = |arguments: &[&str]| try_run(Command::new("mount").args(arguments).arg(dir.path()));
        mount(&["-t", "cgroup2", "none"]).unwrap();
        let controllers = std::fs::read_to_string(dir.path().join("cgroup.controllers")).unwrap();
        if controllers.split_whitespace().any(|controller| controller == "cpu") {
            std::fs::write(dir.path().join("cgroup.subtree_control"), "+cpu").unwrap();
        } else {
            unmount(dir.path());
            mount(&["-t", "cgroup", "-o", "cpu", "none"]).unwrap();
        }
        Mount { dir, device: None, below: None }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Mount {
    /// Top down. A process that still uses the mount keeps it alive, unseen, until it ends.
    fn drop(&mut self) {
        unmount(self.dir.path());
        if let Some(device) = &self.device {
            let _ = try_run(Command::new("losetup").args(["--detach", device]));
        }
        if let Some((below, server)) = self.below.take() {
            unmount(below.path());
            let _ = server.join();
        }
    }
}

fn unmount(dir: &Path) {
    if try_run(Command::new("umount").arg(dir)).is_err() {
        let _ = try_run(Command::new("umount").arg("--lazy").arg(dir));
    }
}

/// Has the number of the test process in its name, so that another run can tell whether that one has ended.
fn mount_point() -> tempfile::TempDir {
    let prefix = format!("{PREFIX}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().unwrap()
}

const PREFIX: &str = "tableswap-torture-";

/// Unmounts what a test process left that was killed.
fn sweep() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    // The last is mounted on top.
    for mount in mounts.lines().rev() {
        let mut words = mount.split(' ');
        let (Some(device), Some(dir)) = (words.next(), words.next().map(Path::new)) else { continue };
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let owner = name.strip_prefix(PREFIX).and_then(|name| name.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            unmount(dir);
            let _ = std::fs::remove_dir(dir);
            if device.starts_with("/dev/loop") {
                // It fails where the device went with its mount.
                let _ = try_run(Command::new("losetup").args(["--detach", device]));
            }
        }
    }
}

/// Runs a program of the system and gives what it printed; fails the test where it fails.
fn run(command: &mut Command) -> String {
    try_run(command).unwrap_or_else(|error| panic!("{error}; power cuts and full disks need root"))
}

fn try_run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
