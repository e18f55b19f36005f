//! `bench swap`: what readers notice of a swap, and of a whole load.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufReader, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use testkit::{Database, MariaDb, Server, free_port, http};

use crate::arguments::Swap;
use crate::data;
use crate::draws::Draw;
use crate::machine::Machine;
use crate::numbers::{counted, grouped, median};
use crate::programs::Programs;
use crate::stores::{FOR_LOADS, start_updater};
use crate::wrk::{Load, Measured, Wrk};

/// Readers that ask without a pause, each on a connection of its own, while swaps happen.
const READERS: usize = 4;
/// So many swaps on either store.
const SWAPS: u32 = 20;
/// So long a slow reader holds the live table.
const SLOW_SECONDS: u32 = 10;
/// What asks while a load is under way.
const CONNECTIONS: usize = 64;
const WINDOW_SECONDS: usize = 3;

pub(crate) fn run(arguments: &Swap) -> anyhow::Result<()> {
    let (dir, programs) = (arguments.places.dir()?, Programs::find()?);
    let wrk = Wrk::prepare(&dir)?;
    let files = files(&dir, arguments.rows, &programs)?;
    let draws = dir.join("swap.draws");
    Draw::Uniform.write(
        &data::prepare(Path::new(&files[0]), arguments.rows, &programs)?,
        4_000_000,
        &draws,
    )?;
    let server = MariaDb::start_with(&FOR_LOADS);
    let database = server.database();
    let mut lines = BTreeMap::new();
    let embedded =
        Site::start(&programs, &dir, &format!("embedded:{}", dir.join("swap-store").display()), None)?;
    files.iter().try_for_each(|file| embedded.load(file))?;
    lines.insert("embedded, idle", embedded.gaps(SWAPS)?);
    drop(embedded);
    fs::remove_dir_all(dir.join("swap-store"))?;
    let site = Site::start(&programs, &dir, &database.url(), Some(&database.reader_url()))?;
    files.iter().try_for_each(|file| site.load(file))?;
    lines.insert("mariadb, idle", site.gaps(SWAPS)?);
    lines.insert("mariadb, behind a slow reader", site.behind_a_slow_reader(&database)?);
    let blocked = site.readers_of_a_blocked_swap(&wrk, &draws, &database)?;
    let readers = site.readers_of_a_load(&wrk, &draws, &files[1])?;
    let machine = Machine::look(&wrk.version, Some(server.execute("SELECT VERSION()")));
    let report = report(arguments, &machine, &lines, &readers, &blocked);
    arguments.places.publish("swap", &report)
}

/// Two files with the same ids and one more in the second.
fn files(dir: &Path, rows: usize, programs: &Programs) -> anyhow::Result<[String; 2]> {
    let (one, other) = (dir.join(format!("promotions-{rows}.csv")), dir.join("swap.csv"));
    data::prepare(&one, rows, programs)?;
    let more = "00000000-0000-4000-8000-000000000001,1.500000,2018-06-03 06:16:18 +0200 CEST\n";
    fs::copy(&one, &other)?;
    fs::File::options().append(true).open(&other)?.write_all(more.as_bytes())?;
    Ok([one, other].map(|path| path.to_string_lossy().into_owned()))
}

/// An updater and an api on one store.
struct Site {
    updater: u16,
    api: u16,
    _servers: [Server; 2],
}

/// The longest time without an answer that any reader saw, of each swap, in milliseconds.
type Gaps = Vec<f64>;

impl Site {
    fn start(programs: &Programs, dir: &Path, url: &str, reader_url: Option<&str>) -> anyhow::Result<Site> {
        let (updater, api) = (free_port(), free_port());
        let writes = start_updater(programs.path("updater")?, updater, url, &dir.join("swap-work"))?;
        let listen = format!("127.0.0.1:{api}");
        let environment = [
            ("TABLESWAP_STORE_URL", reader_url.unwrap_or(url)),
            ("TABLESWAP_STORE_CACHE_BYTES", "0"),
            ("TABLESWAP_API_LISTEN", &listen),
            ("TABLESWAP_LOG_LEVEL", "warn"),
        ];
        let reads = Server::start(programs.path("api")?, &[], &environment, api);
        Ok(Site { updater, api, _servers: [writes, reads] })
    }

    fn load(&self, file: &str) -> anyhow::Result<()> {
        // What was rolled back from is loaded again.
        let url = format!("http://127.0.0.1:{}/datasets/promotions?force=true", self.updater);
        let output =
            Command::new("curl").args(["--silent", "--show-error", "--upload-file", file, &url]).output()?;
        let answer = String::from_utf8_lossy(&output.stdout);
        ensure!(answer.contains("\"status\":\"published\""), "the updater says {answer}");
        Ok(())
    }

    /// Swaps back and forth.
    fn gaps(&self, swaps: u32) -> anyhow::Result<Gaps> {
        (0..swaps).map(|swap| self.gap_of(1 + swap % 2)).collect()
    }

    /// One swap that has to wait for a statement that reads the live table.
    fn behind_a_slow_reader(&self, database: &Database) -> anyhow::Result<Gaps> {
        let database = database.clone();
        let slow = thread::spawn(move || {
            database.execute(&format!("SELECT SLEEP({SLOW_SECONDS}) FROM promotions LIMIT 1"))
        });
        sleep(Duration::from_millis(500));
        let gap = self.gap_of(1);
        slow.join().map_err(|_| anyhow::anyhow!("the slow reader failed"))?;
        Ok(vec![gap?])
    }

    fn gap_of(&self, version: u32) -> anyhow::Result<f64> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let readers: Vec<_> =
                (0..READERS).map(|_| scope.spawn(|| longest_gap(self.api, &is_over))).collect();
            sleep(Duration::from_millis(200));
            let path = format!("/datasets/promotions/versions/{version}/activate");
            let swapped = http::send_with_patience("POST", self.updater, &path, Duration::from_secs(90));
            sleep(Duration::from_millis(200));
            is_over.store(true, Ordering::Relaxed);
            let gaps = readers.into_iter().map(|reader| reader.join().unwrap_or_else(|_| Ok(f64::NAN)));
            let longest = gaps.collect::<anyhow::Result<Vec<f64>>>()?.into_iter().fold(0.0, f64::max);
            ensure!(swapped? == 200, "the swap to version {version} failed");
            Ok(longest)
        })
    }

    fn window(&self, wrk: &Wrk, draws: &Path) -> anyhow::Result<Measured> {
        wrk.run(&Load {
            port: self.api,
            connections: CONNECTIONS,
            seconds: WINDOW_SECONDS,
            draws,
            part: (0, 2_000_000),
            header: None,
        })
    }

    /// Readers while a swap is tried again and again behind a statement that reads the live table.
    fn readers_of_a_blocked_swap(
        &self,
        wrk: &Wrk,
        draws: &Path,
        database: &Database,
    ) -> anyhow::Result<Vec<Measured>> {
        let mut windows = Vec::new();
        for version in [2, 1] {
            let slow = {
                let database = database.clone();
                thread::spawn(move || {
                    database.execute(&format!("SELECT SLEEP({SLOW_SECONDS}) FROM promotions LIMIT 1"))
                })
            };
            sleep(Duration::from_millis(300));
            thread::scope(|scope| {
                let path = format!("/datasets/promotions/versions/{version}/activate");
                let swap = scope.spawn(move || {
                    http::send_with_patience("POST", self.updater, &path, Duration::from_secs(90))
                });
                sleep(Duration::from_millis(100));
                windows.push(self.window(wrk, draws)?);
                windows.push(self.window(wrk, draws)?);
                ensure!(!swap.is_finished(), "the swap did not wait");
                let swapped = swap.join().map_err(|_| anyhow::anyhow!("the swap failed"))?;
                ensure!(swapped? == 200, "the swap to version {version} failed");
                Ok(())
            })?;
            slow.join().map_err(|_| anyhow::anyhow!("the slow reader failed"))?;
        }
        Ok(windows)
    }

    /// Throughput and times of readers before, during and after a load.
    fn readers_of_a_load(&self, wrk: &Wrk, draws: &Path, file: &str) -> anyhow::Result<[Vec<Measured>; 3]> {
        let window = || self.window(wrk, draws);
        let some = || (0..5).map(|_| window()).collect::<anyhow::Result<Vec<_>>>();
        some()?;
        let before = some()?;
        let is_over = AtomicBool::new(false);
        let during = thread::scope(|scope| {
            let load = scope.spawn(|| {
                let loaded = self.load(file);
                is_over.store(true, Ordering::Relaxed);
                loaded
            });
            let mut during = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                during.push(window()?);
            }
            load.join().map_err(|_| anyhow::anyhow!("the load failed"))??;
            anyhow::Ok(during)
        })?;
        Ok([before, during, some()?])
    }
}

/// Asks for one promotion again and again; returns the longest time between two answers, in milliseconds.
fn longest_gap(port: u16, is_over: &AtomicBool) -> anyhow::Result<f64> {
    let mut stream = http::connect(port)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let request = format!(
        "GET /promotions/84bd5481-ace4-4d45-806e-8365980105d9 HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n"
    );
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    while !is_over.load(Ordering::Relaxed) {
        stream.write_all(request.as_bytes())?;
        let answer = http::read_response(&mut answers, false).context("an answer")?;
        ensure!(answer.status == 200, "a reader got {}: {}", answer.status, answer.text());
        longest = longest.max(last.elapsed());
        last = Instant::now();
        // Four that never pause would be a load of their own.
        sleep(Duration::from_millis(1));
    }
    Ok(longest.as_secs_f64() * 1e3)
}

fn report(
    arguments: &Swap,
    machine: &Machine,
    gaps: &BTreeMap<&str, Gaps>,
    [before, during, after]: &[Vec<Measured>; 3],
    blocked: &[Measured],
) -> String {
    let Machine { date, cpu, cores, memory_gib, kernel, mariadb, wrk } = machine;
    let mut text = format!(
        "Measured on {date} by\n\n```sh\n{}\n```\n\n{} rows; {cpu}, {cores} cores, {memory_gib:.0} GiB, Linux {kernel}, \
         MariaDB {}, wrk {wrk}.\n\n| swap | swaps | longest gap ms, median | largest | goal | floor |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
        arguments.command_line(),
        counted(arguments.rows),
        mariadb.as_deref().unwrap_or_default(),
    );
    for (name, gaps) in gaps {
        let (goal, floor) = if name.contains("slow") { ("150", "300") } else { ("20", "100") };
        let largest = gaps.iter().copied().fold(0.0, f64::max);
        let middle = median(gaps.clone()).unwrap_or_default();
        let _ = writeln!(text, "| {name} | {} | {middle:.0} | {largest:.0} | {goal} | {floor} |", gaps.len());
    }
    let _ = writeln!(
        text,
        "\n| readers of mariadb, {CONNECTIONS} connections, windows of {WINDOW_SECONDS} s | windows | requests/s \
         | to before | p99 ms | to before |\n| --- | ---: | ---: | ---: | ---: | ---: |"
    );
    let figure = |of: &[Measured], figure: fn(&Measured) -> f64| {
        median(of.iter().map(figure).collect()).unwrap_or_default()
    };
    let rows: [(&str, &[Measured]); 4] = [
        ("before a load", before),
        ("during a load", during),
        ("after it", after),
        ("while a swap waits", blocked),
    ];
    for (name, windows) in rows {
        let (requests, p99) = (figure(windows, Measured::throughput), figure(windows, |it| it.p99));
        let (requests_before, p99_before) =
            (figure(before, Measured::throughput), figure(before, |it| it.p99));
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {:.2} | {:.2} | {:.2} |",
            windows.len(),
            grouped(requests),
            requests / requests_before,
            p99 / 1e3,
            p99 / p99_before,
        );
    }
    text
}
