//! A person changes what is stored, by SQL or in the file system, while the servers run.
//!
//! Each case is an action on a dataset of three versions. Readers must get the right row or 503, the next load must
//! work or say what is in its way, and what is not ours must stay as it is.

mod in_files;
mod in_mariadb;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cluster::Backend;
use crate::editions::KEYS;
use crate::findings::Findings;
use crate::options::Options;
use crate::testbed::{Answer, Order, Running, Testbed, body, comes, status, told};
use crate::workers::run_all;

/// Several times as long as an api takes to see a change.
const WATCHED_FOR: Duration = Duration::from_millis(700);

/// A load may be refused for this long after its cause is gone.
const WORKS_WITHIN: Duration = Duration::from_secs(10);

/// One action and what is expected after it.
struct Case {
    name: &'static str,
    action: Action,
    /// Takes away what keeps a load from working; nothing where the next load must work without it.
    remedy: Option<Action>,
    /// Tables or files that are not ours once the action is done.
    foreign: &'static [&'static str],
    /// What an error has to name.
    named: &'static str,
    /// Whether anything that is left tells an api that starts afterwards of the dataset.
    is_known: bool,
    /// Whether an api can read what is published before the remedy.
    can_be_read: bool,
}

#[derive(Clone, Copy)]
enum Action {
    /// Statements as root; `{writer}`, `{reader}`, `{database}` and `{key}` are filled in.
    Sql(&'static str),
    /// A function of the directory of the dataset and of a copy that was made when version 2 was live.
    Files(fn(&Path, &Path)),
}

#[test]
fn p1_p4_p9_what_a_person_does_in_the_database_is_survived() {
    run(Backend::Mariadb, &in_mariadb::CASES, "human_actions mariadb");
}

#[test]
fn p1_p4_p9_what_a_person_does_to_the_files_is_survived() {
    run(Backend::Embedded, &in_files::CASES, "human_actions files");
}

fn run(backend: Backend, cases: &[Case], scenario: &str) {
    let findings = Findings::new(scenario);
    let options = Options::read(scenario, cases.len());
    let name = |case: &Case| case.name.to_owned();
    run_all(cases, &findings, name, |case| {
        let bed = Testbed::new(backend, options.seed);
        Aftermath { bed: &bed, case, findings: &findings }.run();
    });
    findings.conclude(&format!("{} cases", cases.len()), "");
}

struct Aftermath<'a> {
    bed: &'a Testbed,
    case: &'a Case,
    findings: &'a Findings,
}

impl Aftermath<'_> {
    fn run(&self) {
        let copy = self.bed.path().join("copy");
        let (updater, before) = (self.bed.updater(), self.bed.api());
        let mut orders = Vec::new();
        for version in 1..=3 {
            orders.push(self.bed.order_load());
            let answer = updater.carry_out(&orders[version - 1]);
            assert_eq!(status(&answer), 200, "{}", told(&answer));
            if version == 2 && self.bed.database.is_none() {
                copy_dir(&self.bed.data_dir(), &copy);
            }
        }
        assert_eq!(before.look_up(&self.bed.editions, 0), Ok((3, 3)), "the setup is as the cases expect it");
        self.act(self.case.action, &copy);
        let foreign = self.foreign();
        let after = self.bed.api();
        self.watch(&before, &after);
        let apis = [&before, &after];
        let readable = if self.case.can_be_read { &apis[..] } else { &[] };
        self.check_load(&updater, &orders[2], readable);
        self.check_load(&updater, &self.bed.order_load(), readable);
        self.check_foreign(&foreign, "after loads");
        if let Some(remedy) = self.case.remedy {
            self.act(remedy, &copy);
        } else {
            self.check_foreign(&foreign, "at the end");
        }
        let order = self.bed.order_load();
        let mut answer: Answer = Err("not asked".into());
        let deadline = Instant::now() + WORKS_WITHIN;
        while status(&answer) != 200 && Instant::now() < deadline {
            answer = updater.try_order(&order);
        }
        if status(&answer) == 200 {
            self.check_published(&order, &apis, "the last load");
        } else {
            self.report("P3 loads do not work again", told(&answer));
        }
    }

    fn report(&self, rule: &str, what: impl AsRef<str>) {
        self.findings.report(rule, format!("{}: {}", self.case.name, what.as_ref()));
    }

    fn act(&self, action: Action, copy: &Path) {
        match action {
            Action::Files(act) => act(&self.bed.data_dir(), copy),
            Action::Sql(sql) => {
                let database = self.bed.database();
                let (name, key) = (database.name(), self.bed.editions.id(0).replace('-', ""));
                let sql = sql
                    .replace("{writer}", &format!("{name}_writer@'127.0.0.1'"))
                    .replace("{reader}", &format!("{name}_reader@'127.0.0.1'"))
                    .replace("{database}", name)
                    .replace("{key}", &key);
                database.execute(&sql);
            }
        }
    }

    /// Definition and content of all that is not ours.
    fn foreign(&self) -> Vec<String> {
        let describe = |name: &&str| match &self.bed.database {
            Some(database) => {
                let sql = format!("SHOW CREATE TABLE {name}; SELECT * FROM {name}");
                database.try_execute(&sql).unwrap_or_else(|error| error)
            }
            None => format!("{:?}", read_stem(&self.bed.data_dir(), name)),
        };
        self.case.foreign.iter().map(describe).collect()
    }

    fn check_foreign(&self, before: &[String], when: &str) {
        let now = self.foreign();
        if now != before {
            let short =
                |texts: &[String]| texts.iter().map(|text| text.chars().take(200).collect()).collect();
            let (now, before): (Vec<String>, Vec<String>) = (short(&now), short(before));
            self.report("P4 what is not ours was touched", format!("{when}: {now:?}, before: {before:?}"));
        }
    }

    /// Both apis answer with a row of the version that they name, or with 503.
    fn watch(&self, before: &Running, after: &Running) {
        for (name, api) in [("the api that was running", before), ("an api that starts", after)] {
            let is_known = self.case.is_known || std::ptr::eq(api, before);
            let until = Instant::now() + WATCHED_FOR;
            let is_wrong = |seen: &Result<(u32, u32), String>| match seen {
                Ok((version, edition)) => version != edition,
                Err(answer) => !answer.starts_with("503") && (is_known || !answer.starts_with("404")),
            };
            while Instant::now() < until {
                let seen = api.look_up(&self.bed.editions, 0);
                if is_wrong(&seen) {
                    self.report("P1 neither the right row nor 503", format!("{name}: {seen:?}"));
                    break;
                }
                sleep(Duration::from_millis(30));
            }
        }
    }

    /// A load works, or its error names what is in the way. Paths are named in the log alone.
    fn check_load(&self, updater: &Running, order: &Order, apis: &[&Running]) {
        let answer = updater.carry_out(order);
        let (kind, detail) = (body(&answer)["status"].clone(), body(&answer)["detail"].clone());
        let detail = detail.as_str().unwrap_or_default();
        match status(&answer) {
            200 if kind == "unchanged" => self.check_published(order, apis, "unchanged"),
            200 => self.check_published(order, apis, "a load"),
            409 | 503 | 507 if detail.contains(self.case.named) => {}
            503 if detail.ends_with("the log says why") && updater.server.log().contains(self.case.named) => {
            }
            _ => self.report("P9 an error that does not name its cause", told(&answer)),
        }
    }

    /// Every row that was sent can be looked up.
    fn check_published(&self, order: &Order, apis: &[&Running], what: &str) {
        let Order::Load(edition) = order else { return };
        for (at, api) in apis.iter().enumerate() {
            let wrong = (0..KEYS).find_map(|key| {
                let seen = api.look_up(&self.bed.editions, key);
                let is_right = seen.as_ref().is_ok_and(|(_, found)| *found == edition.number);
                (!is_right).then_some((key, seen))
            });
            if let Some((key, seen)) = wrong {
                let recovers = || {
                    let seen = api.look_up(&self.bed.editions, key);
                    seen.is_ok_and(|(_, found)| found == edition.number)
                };
                let later =
                    if comes(Duration::from_secs(2), recovers) { "right later" } else { "wrong for 2 s" };
                let what = format!("{what} was answered 200, api {at} has for key {key}: {seen:?}, {later}");
                self.report("P5 P7 200 and the row cannot be looked up", what);
            }
        }
    }
}

/// Name and bytes of the file that has this name before its extension.
fn read_stem(dir: &Path, stem: &str) -> Option<(PathBuf, Vec<u8>)> {
    let mut files = std::fs::read_dir(dir).ok()?.filter_map(Result::ok).map(|file| file.path());
    let path = files.find(|path| path.file_stem().is_some_and(|found| found == stem))?;
    let bytes = std::fs::read(&path).ok()?;
    Some((path, bytes))
}

/// A copy with the same names and contents.
fn copy_dir(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "cp -a {} {}", from.display(), to.display());
}
