//! The quick start of the README.

use testkit::{http, until};

use crate::harness::{BACKENDS, Backend, Site, json};

/// The file that ships, and the first id in it.
fn shipped() -> (Vec<u8>, String) {
    let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../promotions.csv")).unwrap();
    let id = String::from_utf8(file[..36].to_vec()).unwrap();
    (file, id)
}

fn try_out(site: &Site) {
    let (file, id) = shipped();
    let answer = site.upload(&file);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let report = json(&answer);
    assert_eq!((report["rows"].as_u64(), report["rejected"].as_u64()), (Some(200_000), Some(0)));
    assert_eq!(report["bytes"].as_u64(), Some(file.len() as u64));
    let row = site.get(&format!("/promotions/{id}"));
    assert_eq!((row.status, json(&row)["id"].as_str()), (200, Some(id.as_str())));
    assert_eq!(site.get("/promotions/test").status, 404);
    for port in [site.api_port, site.updater_port] {
        testkit::check_metrics(&http::get(port, "/prometheus").text());
    }
}

#[test]
fn two_processes_answer_the_quick_start_on_both_stores() {
    for backend in BACKENDS {
        let site = Site::new(backend);
        let (_updater, _api) = (site.updater(), site.api());
        try_out(&site);
    }
}

#[test]
fn one_process_answers_the_quick_start_on_both_stores() {
    for backend in BACKENDS {
        let site = Site::new(backend);
        let _both = site.serve(&[]);
        until(|| http::try_get(site.updater_port, "/healthz").is_ok());
        try_out(&site);
    }
}

#[test]
fn the_first_load_happens_once() {
    let site = Site::new(Backend::Embedded);
    let file = site.file("first.csv", testkit::rows::promotions_csv(100, 1));
    let server = site.serve(&["--first-load", &file]);
    until(|| server.log().contains("Ready. In another terminal"));
    assert_eq!(
        site.get(&format!("/promotions/{}", testkit::rows::promotion_id(1, 7))).text(),
        testkit::rows::promotion_json(1, 7)
    );
    server.terminate();
    assert!(server.wait(std::time::Duration::from_secs(20)).success(), "{}", server.log());
    let server = site.serve(&["--first-load", &file]);
    until(|| server.log().contains("Ready. In another terminal"));
    assert_eq!(site.live(), Some(1));
    assert!(!server.log().contains("first load"), "{}", server.log());
}

#[test]
fn another_dataset_is_a_few_lines_of_toml() {
    use testkit::rows::{PRODUCTS_TOML, product_json, product_sku, products_csv};
    for backend in BACKENDS {
        let site = Site::new(backend);
        let datasets = site.file("datasets.toml", PRODUCTS_TOML);
        let (_updater, _api) = (site.updater_with(&[("TABLESWAP_UPDATER_DATASETS", &datasets)]), site.api());
        assert_eq!(site.upload(products_csv(500, 3).as_bytes()).status, 200);
        for row in [0, 17, 499] {
            let answer = site.get(&format!("/products/{}", product_sku(3, row)));
            assert_eq!(answer.text(), product_json(3, row));
        }
        assert_eq!(site.get("/promotions/test").status, 404);
    }
}

#[test]
fn p7_every_api_sees_a_version_once_its_upload_is_answered() {
    use testkit::rows::{edition, promotion_id, promotion_json, promotions_csv};
    for backend in BACKENDS {
        let site = Site::new(backend);
        let (_updater, apis) = (site.updater(), [site.another_api(), site.another_api()]);
        for version in 1..=5 {
            let seed = edition(9, version);
            assert_eq!(site.upload(promotions_csv(50, seed).as_bytes()).status, 200);
            for (_, port) in &apis {
                let answer = http::get(*port, &format!("/promotions/{}", promotion_id(seed, 3)));
                assert_eq!(answer.text(), promotion_json(seed, 3), "{backend:?}, version {version}");
                assert_eq!(answer.header("x-dataset-version"), Some(version.to_string().as_str()));
            }
        }
    }
}

#[test]
fn the_commands_of_the_readme_do_what_it_says_word_for_word() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    let quick_start = readme.split_once("## Quick start").unwrap().1.split_once("```sh\n").unwrap().1;
    let commands: Vec<_> = quick_start.split_once("```").unwrap().0.lines().collect();
    let site = Site::new(Backend::Embedded);
    let server = site.serve(&[]);
    until(|| server.log().contains("Ready. In another terminal"));
    site.file("promotions.csv", shipped().0);
    let run = |command: &str| {
        let ports = [("1322", site.updater_port), ("1321", site.api_port)];
        let command = ports.iter().fold(command.to_owned(), |it, (from, to)| {
            it.replace(&format!("localhost:{from}"), &format!("localhost:{to}"))
        });
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("{command} --silent --show-error")])
            .current_dir(site.dir.path())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let answers: Vec<_> = commands.iter().map(|command| run(command)).collect();
    assert_eq!(answers.len(), 4);
    assert!(
        answers[0].contains(r#""version":1,"status":"published","rows":200000,"rejected":0"#),
        "{}",
        answers[0]
    );
    assert_eq!(
        answers[1],
        r#"{"id":"84bd5481-ace4-4d45-806e-8365980105d9","price":84.269357,"expiration_date":"2018-06-03 04:16:18"}"#
    );
    assert!(answers[2].contains("\"status\":404"), "{}", answers[2]);
    testkit::check_metrics(&answers[3]);
    assert!(run(commands[0]).contains(r#""version":1,"status":"unchanged""#));
}
