//! Going back and forth between versions.

use testkit::http;

use crate::harness::{BACKENDS, Updater, json};

#[test]
fn p8_a_version_is_activated_by_its_number_on_both_stores() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        updater.put("a,1,\n");
        updater.put("a,2,\n");
        let activate = |version: &str| {
            http::post(updater.port, &format!("/datasets/items/versions/{version}/activate"), &[], b"")
        };
        assert_eq!(activate("1").text(), r#"{"dataset":"items","version":1,"before":2}"#);
        assert_eq!(updater.versions(), "2:withdrawn 1:live ");
        assert_eq!(activate("2").text(), r#"{"dataset":"items","version":2,"before":1}"#);
        assert_eq!(updater.versions(), "2:live 1:kept ");
        for version in ["3", "0", "x", "-1", "99999999999"] {
            assert_eq!(activate(version).status, 404, "{version}");
        }
    }
}

#[test]
fn the_history_of_a_dataset_is_listed() {
    let updater = Updater::start(crate::harness::Backend::Embedded);
    updater.put("a,1,\n");
    let listed = updater.get("/datasets/items/versions");
    let entry = &listed["versions"][0];
    assert_eq!(
        (listed["live"].as_u64(), entry["rows"].as_u64(), entry["bytes"].as_u64()),
        (Some(1), Some(1), Some(5))
    );
    assert_eq!(entry["schema"]["key"], "code");
    assert_eq!(entry["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(json(&http::get(updater.port, "/datasets/others/versions"))["status"], 404);
}
