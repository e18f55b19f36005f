//! An updater and an api on the files of one directory, which may not be well: nothing here fails the test by itself.

use std::path::Path;
use std::time::Duration;

use testkit::http::{self, Response};
use testkit::{Server, free_port};

use crate::cluster::program;
use crate::editions::{Edition, Editions};
use crate::listing::Listing;

/// How long a server may take to start, and an api to answer from what is there.
const START_MAX: Duration = Duration::from_secs(20);

pub(crate) struct FileSite {
    pub(crate) updater_port: u16,
    pub(crate) api_port: u16,
    updater: Server,
    api: Server,
}

impl FileSite {
    /// Both servers on `root/data`. `tracer` is put in front of the updater's command line.
    pub(crate) fn start(root: &Path, tracer: &[&str]) -> Result<FileSite, String> {
        let (updater_port, api_port) = (free_port(), free_port());
        let url = format!("embedded:{}", root.join("data").display());
        let listen = |port| format!("127.0.0.1:{port}");
        let (work, updater) = (root.join("work"), program("updater"));
        let env = [
            ("TABLESWAP_STORE_URL", url.as_str()),
            ("TABLESWAP_UPDATER_LISTEN", &listen(updater_port)),
            ("TABLESWAP_UPDATER_WORK_DIR", work.to_str().unwrap()),
        ];
        let words = [tracer, &[updater.to_str().unwrap()]].concat();
        let updater = Server::spawn(words[0], &words[1..], &env);
        let env = [("TABLESWAP_STORE_URL", url.as_str()), ("TABLESWAP_API_LISTEN", &listen(api_port))];
        let api = Server::spawn(program("api"), &[], &env);
        let site = FileSite { updater_port, api_port, updater, api };
        for (port, server) in [(updater_port, &site.updater), (api_port, &site.api)] {
            let is_well = || get(port, "/healthz").is_ok_and(|answer| answer.status == 200);
            wait_for(is_well).map_err(|()| format!("a server does not start:\n{}", server.log()))?;
        }
        Ok(site)
    }

    /// Uploads an edition; the answer's status and text, 0 where there is none.
    pub(crate) fn upload(&self, edition: &Edition, query: &str) -> (u16, String) {
        let path = format!("/datasets/promotions{query}");
        self.write("PUT", &path, edition.csv.as_bytes())
    }

    pub(crate) fn activate(&self, version: u32) -> (u16, String) {
        self.write("POST", &format!("/datasets/promotions/versions/{version}/activate"), b"")
    }

    pub(crate) fn listing(&self) -> Result<Listing, String> {
        Listing::read(self.updater_port)
    }

    /// Waits until the api answers from this version, and reads every row of it.
    pub(crate) fn check_whole(&self, editions: &Editions, version: u32, edition: u32) -> Result<(), String> {
        let path = format!("/promotions/{}", editions.id(0));
        let names_it = || {
            get(self.api_port, &path)
                .is_ok_and(|answer| answer.header("x-dataset-version") == Some(version.to_string().as_str()))
        };
        wait_for(names_it).map_err(|()| {
            let answer = get(self.api_port, &path).map(|answer| (answer.status, answer.text()));
            format!("the api does not answer from version {version}: {answer:?}\n{}", self.api.log())
        })?;
        for (keys, expected) in editions.all_rows(version, edition) {
            let head = [("content-type", "application/json")];
            let answer = http::post(self.api_port, "/promotions/lookup", &head, keys.as_bytes());
            if answer.status != 200 || answer.text() != expected {
                let text: String = answer.text().chars().take(300).collect();
                return Err(format!("version {version} is not edition {edition}: {} {text}", answer.status));
            }
        }
        Ok(())
    }

    /// What both servers printed.
    pub(crate) fn logs(&self) -> String {
        format!("{}\n{}", self.updater.log(), self.api.log())
    }

    fn write(&self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        let length = body.len().to_string();
        let head = http::head(method, path, self.updater_port, &[("content-length", &length)]);
        let answer = http::try_request(self.updater_port, &[head.as_bytes(), body].concat());
        answer.map_or_else(|error| (0, error.to_string()), |answer| (answer.status, answer.text()))
    }
}

fn get(port: u16, path: &str) -> std::io::Result<Response> {
    http::try_request(port, http::head("GET", path, port, &[]).as_bytes())
}

fn wait_for(come: impl Fn() -> bool) -> Result<(), ()> {
    testkit::wait_for(START_MAX, || come().then_some(())).ok_or(())
}
