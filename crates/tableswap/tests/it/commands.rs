//! The commands, as they are typed.

use testkit::rows::{promotion_id, promotion_json, promotions_csv};

use crate::harness::{BACKENDS, Backend, Site, printed};

#[test]
fn a_file_is_checked_without_a_server() {
    let site = Site::new(Backend::Embedded);
    let file = site.file("good.csv", promotions_csv(1000, 1));
    let output = site.command(&["check", &file]);
    let printed = printed(&output);
    assert!(printed.starts_with("the file is fine: 1,000 rows, 0 rejected, 0 duplicates\n"), "{printed}");
    assert_eq!(output.status.code(), Some(0));
    assert!(site.command_with(&["check", "-"], promotions_csv(10, 1).as_bytes()).status.success());
}

#[test]
fn a_bad_file_is_refused_with_its_rejects_as_the_updater_refuses_it() {
    let site = Site::new(Backend::Embedded);
    let (good, report) = (promotions_csv(2, 1), site.dir.path().join("report.csv"));
    let bad = good.clone()
        + "x,1,2018-08-04 05:32:31 +0200 CEST\n"
        + &good.lines().next().unwrap().replace(',', ",1");
    let file = site.file("bad.csv", bad);
    let output = site.command(&["check", &file, "--report", report.to_str().unwrap()]);
    insta::assert_snapshot!(printed(&output), @r#"
    not_timestamp: 1
    not_uuid: 1
      line 3, column id: "x": not a UUID
      line 4, column expiration_date: "12018-09-28 12:53:36 +0200 CEST": not a time in the format %Y-%m-%d %H:%M:%S %z %Z
    the file would be refused: 2 rows were refused, 0 are allowed
    exit 1
    "#);
    assert_eq!(std::fs::read_to_string(report).unwrap().lines().count(), 3);
    let file = site.file("cut.csv", "\"open");
    insta::assert_snapshot!(printed(&site.command(&["check", &file])), @r"
    the file would be refused: line 1: a quoted field is never closed
    exit 1
    ");
}

#[test]
fn a_packed_file_is_checked_as_it_comes() {
    let site = Site::new(Backend::Embedded);
    let file = site.file("good.csv", promotions_csv(1000, 1));
    assert!(std::process::Command::new("gzip").arg(&file).status().unwrap().success());
    let printed = printed(&site.command(&["check", &format!("{file}.gz")]));
    assert!(printed.starts_with("the file is fine: 1,000 rows, 0 rejected, 0 duplicates\n"), "{printed}");
}

#[test]
fn a_report_keeps_every_refused_row_however_many_they_are() {
    let site = Site::new(Backend::Embedded);
    let (file, report) = (site.file("bad.csv", "x,y,z\n".repeat(20_000)), site.dir.path().join("report.csv"));
    let output = site.command(&["check", &file, "--report", report.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(report).unwrap().lines().count(), 20_001);
}

#[test]
fn arguments_that_make_no_sense_are_named() {
    let site = Site::new(Backend::Embedded);
    for (arguments, named) in [
        (&["frobnicate"][..], "'frobnicate'"),
        (&["get"], "<KEY>..."),
        (&["rollback", "x"], "'x' for '[VERSION]'"),
        (&["generate", "many"], "'many' for '<ROWS>'"),
        (&["check", "a.csv", "b.csv"], "'b.csv'"),
    ] {
        let printed = printed(&site.command(arguments));
        assert!(printed.contains(named) && printed.ends_with("exit 2"), "{printed}");
    }
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    let site = Site::new(Backend::Embedded);
    let file = site.file("good.csv", promotions_csv(10, 1));
    let say = |arguments: &[&str]| {
        let printed = printed(&site.command(arguments));
        printed.replace(&site.updater_port.to_string(), "1322").replace(&site.api_port.to_string(), "1321")
    };
    insta::assert_snapshot!(say(&["check", "/no/such/file.csv"]), @r"
    tableswap: cannot use /no/such/file.csv: No such file or directory (os error 2)
    exit 2
    ");
    insta::assert_snapshot!(say(&["check", &file, "--dataset", "others"]), @r"
    tableswap: there is no dataset `others`: name one with --dataset, define it with --datasets
    exit 2
    ");
    insta::assert_snapshot!(say(&["load", &file]), @r"
    tableswap: no answer from http://127.0.0.1:1322/datasets/promotions?dry_run=false&force=false (`tableswap serve` starts both servers here): io: Connection refused (os error 111)
    exit 2
    ");
    insta::assert_snapshot!(say(&["get", "x"]), @r"
    tableswap: no answer from http://127.0.0.1:1321/promotions/x (`tableswap serve` starts both servers here): io: Connection refused (os error 111)
    exit 2
    ");
}

#[test]
fn a_newcomer_finds_every_command_in_the_help() {
    let site = Site::new(Backend::Embedded);
    let help = printed(&site.command(&["--help"]));
    for command in ["serve", "check", "load", "get", "health", "versions", "rollback", "generate"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        let help = printed(&site.command(&[command, "--help"]));
        assert!(help.contains(&format!("Example: tableswap {command}")), "{help}");
    }
}

#[test]
fn rows_are_generated_to_a_file_or_a_pipe_that_may_close() {
    let site = Site::new(Backend::Embedded);
    let path = site.dir.path().join("out.csv");
    assert!(site.command(&["generate", "10", "--output", path.to_str().unwrap()]).status.success());
    let piped = site.command(&["generate", "10"]);
    assert_eq!(std::fs::read(path).unwrap(), piped.stdout);
    assert_ne!(site.command(&["generate", "10", "--seed", "2"]).stdout, piped.stdout);
    let script = format!("{} generate 1000000 | head -n 1", env!("CARGO_BIN_EXE_tableswap"));
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_dataset_is_loaded_looked_up_and_rolled_back_on_both_stores() {
    for backend in BACKENDS {
        let site = Site::new(backend);
        let (_updater, _api) = (site.updater(), site.api());
        let say = |arguments: &[&str]| printed(&site.command(arguments));
        let (first, second) =
            (site.file("1.csv", promotions_csv(1000, 1)), site.file("2.csv", promotions_csv(900, 2)));
        assert!(say(&["rollback"]).contains("`promotions` has no previous version to go back to"));
        assert!(
            say(&["load", &first, "--dry-run"])
                .starts_with("promotions would change: 1,000 added, 0 removed, 0 changed")
        );
        assert!(
            say(&["load", &first])
                .starts_with("promotions version 1 is live: 1,000 rows, 0 rejected, 0 duplicates")
        );
        assert!(
            say(&["load", &first]).starts_with("promotions version 1 has these very bytes: nothing to do")
        );
        assert!(say(&["load", &second]).starts_with("promotions version 2 is live: 900 rows"));
        let (id, other) = (promotion_id(2, 5), promotion_id(1, 5));
        assert_eq!(say(&["get", &id]), format!("{}\nexit 0", promotion_json(2, 5)));
        assert_eq!(say(&["get", &other]), "`promotions` has no such key\nexit 1");
        assert_eq!(
            say(&["get", &id, &other]),
            format!("{}\nnot found: {other}\nexit 1", promotion_json(2, 5))
        );
        assert!(say(&["rollback"]).starts_with("promotions version 1 is live\nversion 2 was live before"));
        assert_eq!(say(&["get", &other]), format!("{}\nexit 0", promotion_json(1, 5)));
        let versions = say(&["versions"]);
        assert!(versions.contains("2  withdrawn") && versions.contains("1  live"), "{versions}");
        assert!(say(&["rollback", "2"]).starts_with("promotions version 2 is live"));
        assert!(say(&["rollback", "7"]).contains("`promotions` has no version 7 that can be activated"));
        let bad = site.file("bad.csv", "x,1,2\n");
        let refused = say(&["load", &bad]);
        assert!(
            refused.contains("line 1, column id: \"x\": not a UUID") && refused.contains("/rejects.csv"),
            "{refused}"
        );
        assert!(refused.ends_with("exit 1"));
    }
}

#[test]
fn a_load_brings_its_token_and_is_told_when_it_is_missing() {
    let site = Site::new(Backend::Embedded);
    let _updater = site.updater_with(&[("TABLESWAP_UPDATER_TOKEN", "s3cret-of-16-or-more")]);
    // Larger than any buffer on the way, so that the answer comes while the file is still being sent.
    let (file, token) =
        (site.file("1.csv", promotions_csv(100_000, 1)), site.file("token", "s3cret-of-16-or-more\n"));
    let refused = printed(&site.command(&["load", &file]));
    assert!(
        refused.contains("--token-file names the file that holds it") && refused.ends_with("exit 1"),
        "{refused}"
    );
    let loaded = printed(&site.command(&["load", &file, "--token-file", &token]));
    assert!(loaded.starts_with("promotions version 1 is live: 100,000 rows"), "{loaded}");
}
