//! The empty data directory that every server begins with: made once by `mariadb-install-db`, then copied.
//!
//! Measured on two cores: `mariadb-install-db` takes 0.43 s, and 4 s while other tests keep both busy; the copy of
//! its 33 MB takes 0.05 to 0.12 s. The template lies beside the test binary, so `cargo clean` removes it. Test
//! binaries that start at once may each make one, under another name; the first to rename its own wins, and a rename
//! is atomic, so nobody sees half a template.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// For the template and for the servers that use it: a server would rebuild a log file of another size.
pub(super) const LOG_FILE_SIZE: &str = "--innodb-log-file-size=16M";

/// Where mariadbd is on the usual systems; an ordinary user's PATH often has no `sbin`.
const SERVER_DIRS: [&str; 4] = ["/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/local/bin"];

/// Puts a data directory at `data`, which must not exist.
pub(super) fn copy_to(data: &Path) {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let template = path();
        if !template.exists() {
            make(&template);
        }
        template
    });
    // `cp` shares the blocks of the files on file systems that can.
    run(Command::new("cp").arg("-R").arg(template).arg(data));
}

/// The program. It is one of the few things that the tests need from the machine.
pub(super) fn mariadbd() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(SERVER_DIRS.iter().map(PathBuf::from));
    dirs.map(|dir| dir.join("mariadbd"))
        .find(|program| program.is_file())
        .expect("mariadbd is not installed: `make test` installs mariadb-server-core and mariadb-client-core")
}

/// The name tells one build of mariadbd from another, because an older server cannot read a newer one's files.
fn path() -> PathBuf {
    let server = fs::metadata(mariadbd()).expect("look at mariadbd");
    home().join(format!("testkit-mariadb-{}-{}", server.size(), server.mtime()))
}

fn home() -> PathBuf {
    let binary = env::current_exe().expect("the path of the test binary");
    binary.parent().expect("the directory of the test binary").to_owned()
}

fn make(template: &Path) {
    let dir = tempfile::Builder::new().prefix("testkit-mariadb-new-").tempdir_in(home());
    let dir = dir.expect("make a directory beside the test binary");
    let data = dir.path().join("data");
    let mut install = Command::new("mariadb-install-db");
    install.arg("--no-defaults").arg(format!("--datadir={}", data.display())).arg(LOG_FILE_SIZE);
    // Several of these in one directory for temporary tables would remove each other's.
    install.arg(format!("--tmpdir={}", dir.path().display()));
    // Root has no password and no socket rule, so that any user who runs the tests is root of this server.
    install.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]);
    run(&mut install);
    if let Err(error) = fs::rename(&data, template) {
        assert!(template.exists(), "rename {} to {}: {error}", data.display(), template.display());
    }
}

fn run(command: &mut Command) {
    let Output { status, stdout, stderr } = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; `make test` installs what is needed"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(status.success(), "{command:?}: {status}\n{}{}", text(&stdout), text(&stderr));
}
