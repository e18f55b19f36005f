//! What the command says where something is not as the user believes.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use testkit::rows::{promotion_id, promotions_csv};

use crate::harness::{Backend, Site, printed, program};

#[test]
fn a_report_never_replaces_the_file_that_is_checked() {
    let site = Site::new(Backend::Embedded);
    let file = site.file("good.csv", promotions_csv(10, 1));
    let link = site.dir.path().join("link.csv");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let hard = site.dir.path().join("hard.csv");
    std::fs::hard_link(&file, &hard).unwrap();
    for report in [file.as_str(), link.to_str().unwrap(), hard.to_str().unwrap()] {
        let printed = printed(&site.command(&["check", &file, "--report", report]));
        assert!(printed.contains("is the file that is checked: name another one\nexit 2"), "{printed}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), promotions_csv(10, 1));
    // A report as the input, redirected by a shell.
    let report =
        site.file("report.csv", "line,column,value,code,reason,record\n1,id,x,not_uuid,not a UUID,x\n");
    let mut command = Command::new(program("tableswap"));
    command.args(["check", "-", "--report", &report]).stdin(File::open(&report).unwrap());
    let printed = printed(&command.output().unwrap());
    assert!(printed.contains("is the file that is checked: name another one\nexit 2"), "{printed}");
    assert_eq!(std::fs::read_to_string(&report).unwrap().lines().count(), 2);
}

#[test]
fn a_report_never_replaces_a_file_that_is_none() {
    let site = Site::new(Backend::Embedded);
    let file = site.file("bad.csv", "x,1,2\n");
    let note = site.file("note.txt", "line,column,value\nand more");
    for report in [note.as_str(), site.dir.path().to_str().unwrap()] {
        let printed = printed(&site.command(&["check", &file, "--report", report]));
        assert!(printed.contains("is there already and is not a report of rejects"), "{printed}");
        assert!(printed.ends_with("exit 2"), "{printed}");
    }
    assert_eq!(std::fs::read_to_string(note).unwrap(), "line,column,value\nand more");
}

#[test]
fn a_report_of_a_good_file_has_only_its_header_and_replaces_an_older_report() {
    let site = Site::new(Backend::Embedded);
    let (bad, good) = (site.file("bad.csv", "x,1,2\n"), site.file("good.csv", promotions_csv(10, 1)));
    let report = site.dir.path().join("report.csv");
    let lines = |file: &str| {
        site.command(&["check", file, "--report", report.to_str().unwrap()]);
        std::fs::read_to_string(&report).unwrap().lines().count()
    };
    assert_eq!([lines(&good), lines(&bad), lines(&bad), lines(&good)], [1, 2, 2, 1]);
}

#[test]
fn a_refusal_names_what_the_command_has_against_it() {
    let site = Site::new(Backend::Embedded);
    let _updater = site.updater();
    let (two, one) = (site.file("2.csv", promotions_csv(4, 1)), site.file("1.csv", promotions_csv(1, 1)));
    assert!(site.command(&["load", &two]).status.success());
    let refused = printed(&site.command(&["load", &one]));
    assert!(
        refused.contains("the file has 1 row where the live version has 4") && refused.contains("`--force`"),
        "{refused}"
    );
    let loaded = printed(&site.command(&["load", &one, "--force"]));
    assert!(loaded.contains(" is live: 1 row, 0 rejected, 0 duplicates"), "{loaded}");
}

#[test]
fn a_load_shows_the_warnings_of_the_updater() {
    let site = Site::new(Backend::Embedded);
    let _updater = site.updater();
    let cyrillic = b"\xcf\xf0\xe8\xe2\xe5\xf2,1,2018-08-04 05:32:31 +0200 CEST\n";
    let file = site.file("cyrillic.csv", cyrillic);
    let printed = printed(&site.command(&["load", &file]));
    assert!(
        printed.contains(
            "warning: the text is not UTF-8 and seems to be windows-1251; the setting `encoding` reads it"
        ),
        "{printed}"
    );
}

#[test]
fn a_server_of_the_other_kind_is_named() {
    let mut site = Site::new(Backend::Embedded);
    let (_updater, _api) = (site.updater(), site.api());
    let file = site.file("good.csv", promotions_csv(10, 1));
    assert!(site.command(&["load", &file]).status.success());
    std::mem::swap(&mut site.updater_port, &mut site.api_port);
    let (id, other) = (promotion_id(1, 1), promotion_id(1, 2));
    for arguments in [&["load", file.as_str()][..], &["versions"], &["rollback"], &["rollback", "1"]] {
        let printed = printed(&site.command(arguments));
        assert!(
            printed.contains("is the api, not the updater: name the updater with --updater"),
            "{printed}"
        );
        assert!(printed.ends_with("exit 2"), "{printed}");
    }
    for arguments in [&["get", id.as_str()][..], &["get", &id, &other]] {
        let printed = printed(&site.command(arguments));
        assert!(printed.contains("is the updater, not the api: name the api with --api"), "{printed}");
        assert!(printed.ends_with("exit 2"), "{printed}");
    }
}

#[test]
fn what_a_server_says_does_not_steer_the_terminal() {
    let mut site = Site::new(Backend::Embedded);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    site.api_port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let body = r#"{"detail":"\u001b[2Jgone\u0007\r"}"#;
        let head = format!("HTTP/1.1 503 No\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes()).unwrap();
    });
    let printed = printed(&site.command(&["get", "x"]));
    server.join().unwrap();
    assert_eq!(printed, "tableswap: \u{fffd}[2Jgone\u{fffd}\u{fffd}\nexit 2");
}

#[test]
fn a_key_may_be_a_negative_number() {
    let site = Site::new(Backend::Embedded);
    let _api = site.api();
    let printed = printed(&site.command(&["get", "-5"]));
    assert!(printed.starts_with("there is no dataset `promotions`"), "{printed}");
}
