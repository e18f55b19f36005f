//! Actions in the directory of a dataset.

use std::fs;
use std::path::{Path, PathBuf};

use super::Action::Files;
use super::{Case, copy_dir};

const HARMLESS: Case = Case {
    name: "",
    action: Files(|_, _| {}),
    remedy: None,
    foreign: &[],
    named: "promotions",
    is_known: true,
    can_be_read: true,
};

pub(super) const CASES: [Case; 8] = [
    Case {
        name: "the directory is removed",
        action: Files(|dir, _| fs::remove_dir_all(dir).unwrap()),
        is_known: false,
        ..HARMLESS
    },
    Case { name: "the directory is restored from an older copy", action: Files(restore), ..HARMLESS },
    Case {
        name: "the catalog is removed",
        action: Files(|dir, _| fs::rename(catalog(dir), aside(dir)).unwrap()),
        remedy: Some(Files(|dir, _| fs::rename(aside(dir), catalog(dir)).unwrap())),
        named: "catalog",
        ..HARMLESS
    },
    Case {
        name: "the catalog is restored from an older copy",
        action: Files(|dir, copy| replace(&catalog(copy), &catalog(dir))),
        ..HARMLESS
    },
    Case {
        name: "the live version's file is removed",
        action: Files(|dir, _| fs::remove_file(snapshot(dir, 3)).unwrap()),
        ..HARMLESS
    },
    Case {
        name: "the live version's file is cut in half",
        action: Files(|dir, _| {
            let path = snapshot(dir, 3);
            let bytes = fs::read(&path).unwrap();
            // A new file: a mapped one that shrinks is the end of every process that reads it.
            fs::remove_file(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ..HARMLESS
    },
    Case {
        name: "a file has the highest number",
        action: Files(|dir, _| replace(&snapshot(dir, 1), &highest(dir))),
        remedy: Some(Files(|dir, _| remove_highest(dir))),
        named: "v4294967295",
        ..HARMLESS
    },
    Case {
        name: "a file in place of the directory",
        action: Files(|dir, _| {
            fs::rename(dir, aside(dir)).unwrap();
            fs::write(dir, "not yours").unwrap();
        }),
        remedy: Some(Files(|dir, _| {
            fs::remove_file(dir).unwrap();
            fs::rename(aside(dir), dir).unwrap();
        })),
        is_known: false,
        ..HARMLESS
    },
];

fn restore(dir: &Path, copy: &Path) {
    fs::remove_dir_all(dir).unwrap();
    copy_dir(copy, dir);
}

fn replace(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
}

/// Of a dataset or of a copy of one.
fn catalog(dir: &Path) -> PathBuf {
    dir.join("catalog.json")
}

/// Outside of the directory, so that it is in the way of nothing.
fn aside(dir: &Path) -> PathBuf {
    dir.parent().unwrap().parent().unwrap().join("aside")
}

/// The file of a version, whatever its extension is.
fn snapshot(dir: &Path, version: u32) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let is_of = |path: &PathBuf| path.file_stem().is_some_and(|stem| *stem == *format!("v{version}"));
    files.into_iter().find(is_of).unwrap()
}

fn highest(dir: &Path) -> PathBuf {
    let extension = snapshot(dir, 3).extension().unwrap().to_owned();
    dir.join("v4294967295").with_extension(extension)
}

fn remove_highest(dir: &Path) {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let is_it = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == "v4294967295");
    files.filter(is_it).for_each(|path| fs::remove_file(path).unwrap());
}
