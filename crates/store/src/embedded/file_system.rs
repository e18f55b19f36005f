//! The embedded store is for one host: its locks and the atomicity of its renames do not hold on network file systems.

use std::io;
use std::path::Path;

use crate::{Error, Result};

/// Numbers of file systems that several hosts share, as `statfs` gives them.
const NETWORK: [(u64, &str); 9] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x7461_636f, "OCFS2"),
];

fn network_name(number: u64) -> Option<&'static str> {
    NETWORK.iter().find(|(network, _)| *network == number).map(|(_, name)| *name)
}

/// Refuses a directory on a network file system, unless that is allowed.
pub(super) fn check(root: &Path, allow_network: bool) -> Result<()> {
    // One that is not there yet is made in the nearest directory that is.
    let there = root.ancestors().find(|path| path.exists()).unwrap_or(root);
    let found = rustix::fs::statfs(there).map_err(io::Error::from)?;
    // The number is signed on some processors, and its upper half says nothing.
    let number = u64::try_from(found.f_type & 0xffff_ffff).unwrap_or_default();
    match network_name(number) {
        Some(name) if !allow_network => Err(Error::Setup(format!(
            "{} is on {name}: the embedded store is for the disks of one host; \
             TABLESWAP_STORE_ALLOW_NETWORK_FILE_SYSTEM=true allows it all the same",
            root.display()
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        assert_eq!((network_name(0x6969), network_name(0xff53_4d42)), (Some("NFS"), Some("CIFS")));
        // ext4, XFS, btrfs, tmpfs, overlayfs.
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630] {
            assert_eq!(network_name(local), None);
        }
        check(Path::new("/tmp/not/there/yet"), false).unwrap();
    }
}
