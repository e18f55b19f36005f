//! The little of the kernel's FUSE protocol that a directory with one file in it needs.
//!
//! A file system in this process is the way to see every write and every flush of a block device: the loop device on
//! top of the file turns the first into `WRITE` and the second into `FSYNC`. The device mapper can do this too
//! (dm-log-writes), but many kernels of virtual machines and containers come without it.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};

/// The name of the one file.
pub(crate) const FILE: &str = "disk";

const ROOT_NODE: u64 = 1;
const FILE_NODE: u64 = 2;
const HEADER_BYTES: usize = 40;
/// The arguments of `READ` and `WRITE`, in front of the data.
const IO_BYTES: usize = 40;
const WRITE_BYTES_MAX: usize = 1 << 20;
const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;
/// The file changes through this mount alone, so the kernel may keep what it knows.
const VALID_SECONDS: u64 = 3600;

/// What the one file is made of.
pub(crate) trait Disk {
    fn bytes(&self) -> u64;
    fn read(&self, offset: usize, length: usize) -> Vec<u8>;
    fn write(&self, offset: usize, data: &[u8]);
    fn flush(&self);
}

/// Answers the kernel until the file system is unmounted.
pub(crate) fn serve(mut device: File, disk: &impl Disk) {
    let mut buffer = vec![0; WRITE_BYTES_MAX + 4096];
    loop {
        let length = match device.read(&mut buffer) {
            Ok(length) => length,
            // A request that was taken back before it was read.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Interrupted) => continue,
            Err(_) => return,
        };
        let (unique, answer) = respond(&buffer[..length], disk);
        let Some(answer) = answer else { continue };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (-error, Vec::new()),
        };
        let mut reply = Bytes::default();
        reply.u32(u32::try_from(16 + body.len()).unwrap()).i32(error).u64(unique);
        reply.0.extend(body);
        // It fails where nobody waits for the answer any more.
        let _ = device.write(&reply.0);
    }
}

/// The request's number, and its answer if it gets one.
fn respond(request: &[u8], disk: &impl Disk) -> (u64, Option<Result<Vec<u8>, i32>>) {
    let (operation, unique, node) = (u32_at(request, 4), u64_at(request, 8), u64_at(request, 16));
    let body = &request[HEADER_BYTES..];
    let size = disk.bytes();
    let answer = match operation {
        1 if body.split(|byte| *byte == 0).next() == Some(FILE.as_bytes()) => Ok(entry(size)),
        1 => Err(ENOENT),
        // FORGET, INTERRUPT and BATCH_FORGET get no answer.
        2 | 36 | 42 => return (unique, None),
        // GETATTR and SETATTR.
        3 | 4 => {
            let mut reply = Bytes::default();
            reply.u64(VALID_SECONDS).u64(0);
            attributes(&mut reply, node, size);
            Ok(reply.0)
        }
        // OPEN and OPENDIR: one handle is enough, and the kernel may keep the pages.
        14 | 27 => Ok(vec![0; 16]),
        15 => Ok(disk.read(usize_at(body, 8), u32_at(body, 16) as usize)),
        16 => {
            let length = u32_at(body, 16);
            disk.write(usize_at(body, 8), &body[IO_BYTES..][..length as usize]);
            let mut reply = Bytes::default();
            reply.u32(length).u32(0);
            Ok(reply.0)
        }
        // STATFS: nothing asks for more than that there is an answer.
        17 => Ok(vec![0; 80]),
        20 => {
            disk.flush();
            Ok(Vec::new())
        }
        26 => Ok(init(body)),
        // RELEASE, FLUSH, READDIR, RELEASEDIR and DESTROY.
        18 | 25 | 28 | 29 | 38 => Ok(Vec::new()),
        _ => Err(ENOSYS),
    };
    (unique, Some(answer))
}

fn init(body: &[u8]) -> Vec<u8> {
    const BIG_WRITES: u32 = 1 << 5;
    const MAX_PAGES: u32 = 1 << 22;
    let mut reply = Bytes::default();
    reply.u32(7).u32(31).u32(u32_at(body, 8)).u32(BIG_WRITES | MAX_PAGES);
    // Requests in the background at once, and from where on there are many; then sizes, and the grain of times.
    reply.u16(16).u16(12).u32(u32::try_from(WRITE_BYTES_MAX).unwrap()).u32(1);
    reply.u16(u16::try_from(WRITE_BYTES_MAX / 4096).unwrap()).u16(0);
    reply.0.resize(64, 0);
    reply.0
}

fn entry(size: u64) -> Vec<u8> {
    let mut reply = Bytes::default();
    reply.u64(FILE_NODE).u64(0).u64(VALID_SECONDS).u64(VALID_SECONDS).u64(0);
    attributes(&mut reply, FILE_NODE, size);
    reply.0
}

fn attributes(reply: &mut Bytes, node: u64, size: u64) {
    let (mode, size) = if node == ROOT_NODE { (0o040_755, 0) } else { (0o100_600, size) };
    reply.u64(node).u64(size).u64(size / 512);
    // Times, which nobody asks for.
    reply.u64(0).u64(0).u64(0).u32(0).u32(0).u32(0);
    // Mode, links, owner, group, device, size of a block, flags.
    reply.u32(mode).u32(1).u32(0).u32(0).u32(0).u32(4096).u32(0);
}

#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(&mut self, value: u16) -> &mut Bytes {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Bytes {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn i32(&mut self, value: i32) -> &mut Bytes {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Bytes {
        self.0.extend(value.to_ne_bytes());
        self
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn usize_at(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u64_at(bytes, at)).unwrap()
}
