//! Just enough of the client/server protocol to know which statement a packet is, and where its reply begins.
//!
//! A client sends one command and waits for its reply, and a command's packet has the sequence number 0. Two things
//! look like commands and are none: what a client sends for `LOAD DATA LOCAL INFILE`, whose sequence numbers pass 0
//! after 255 packets, and what belongs to the sign-in, whose packets never have the number 0.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};

const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const COM_STMT_SEND_LONG_DATA: u8 = 0x18;
const COM_STMT_CLOSE: u8 = 0x19;

const REPLY_OK: u8 = 0x00;
const REPLY_INFILE: u8 = 0xfb;

/// How a statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// As text, to be executed at once.
    Query,
    /// As text, to be executed later.
    Prepare,
    /// As the number of a prepared statement.
    Execute,
}

/// One packet: at most 16 MiB, as the protocol has it.
#[derive(Debug)]
pub(super) struct Packet {
    sequence: u8,
    payload: Vec<u8>,
}

impl Packet {
    /// Reads the next packet; nothing at the end of the stream.
    pub(super) fn read(stream: &mut impl Read) -> io::Result<Option<Packet>> {
        let mut header = [0; 4];
        match stream.read_exact(&mut header) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let [low, middle, high, sequence] = header;
        let mut payload = vec![0; u32::from_le_bytes([low, middle, high, 0]) as usize];
        stream.read_exact(&mut payload)?;
        Ok(Some(Packet { sequence, payload }))
    }

    pub(super) fn write(&self, stream: &mut impl Write) -> io::Result<()> {
        let [low, middle, high, ..] = u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_le_bytes();
        let header = [low, middle, high, self.sequence];
        // One write: two would wait for each other in the kernel.
        stream.write_all(&[&header[..], &self.payload].concat())
    }
}

/// What one connection has said so far, as far as the next packet depends on it.
#[derive(Debug, Default)]
pub(super) struct Dialogue {
    prepared: HashMap<u32, String>,
    pending: Option<Pending>,
    sends_file: bool,
}

/// A command whose reply has not begun.
#[derive(Debug)]
enum Pending {
    Prepare(String),
    Other,
}

impl Dialogue {
    /// Takes a packet of the client's and gives the statement that it is, if it is one.
    pub(super) fn client_sends(&mut self, packet: &Packet) -> Option<(Command, String)> {
        if self.sends_file {
            self.sends_file = !packet.payload.is_empty();
            return None;
        }
        let (command, rest) = packet.payload.split_first().filter(|_| packet.sequence == 0)?;
        if matches!(*command, COM_QUIT | COM_STMT_SEND_LONG_DATA | COM_STMT_CLOSE) {
            // No reply follows.
            return None;
        }
        self.pending = Some(Pending::Other);
        let text = || String::from_utf8_lossy(rest).into_owned();
        match *command {
            COM_QUERY => Some((Command::Query, text())),
            COM_STMT_PREPARE => {
                self.pending = Some(Pending::Prepare(text()));
                Some((Command::Prepare, text()))
            }
            COM_STMT_EXECUTE => {
                let text = self.prepared.get(&statement_id(rest)?)?;
                Some((Command::Execute, text.clone()))
            }
            _ => None,
        }
    }

    /// Takes a packet of the server's. Whether it is the first packet of the reply to a command: then the server has
    /// executed the command. A request for a file is no reply.
    pub(super) fn server_sends(&mut self, packet: &Packet) -> bool {
        let first = packet.payload.first().copied();
        if self.pending.is_some() && first == Some(REPLY_INFILE) {
            self.sends_file = true;
            return false;
        }
        let Some(pending) = self.pending.take() else { return false };
        if let (Pending::Prepare(text), Some(REPLY_OK)) = (pending, first) {
            self.prepared.extend(statement_id(&packet.payload[1..]).map(|id| (id, text)));
        }
        true
    }
}

fn statement_id(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u8, parts: &[&[u8]]) -> Packet {
        Packet { sequence, payload: parts.concat() }
    }

    fn statement(command: Command, text: &str) -> (Command, String) {
        (command, text.to_owned())
    }

    #[test]
    fn a_packet_is_written_as_it_was_read() {
        let bytes = [3, 0, 0, 7, b'a', b'b', b'c', 9];
        let packet = Packet::read(&mut &bytes[..]).unwrap().unwrap();
        assert_eq!((packet.sequence, &packet.payload[..]), (7, &b"abc"[..]));
        let mut written = Vec::new();
        packet.write(&mut written).unwrap();
        assert_eq!(written, bytes[..7]);
        assert!(Packet::read(&mut &bytes[7..]).unwrap().is_none());
    }

    #[test]
    fn a_query_is_known_and_its_reply_has_one_first_packet() {
        let mut dialogue = Dialogue::default();
        assert!(!dialogue.server_sends(&packet(0, &[b"\x0agreeting"])));
        assert_eq!(dialogue.client_sends(&packet(1, &[b"\x03 part of the sign-in"])), None);
        assert!(!dialogue.server_sends(&packet(2, &[&[0]])));
        let query = packet(0, &[&[COM_QUERY], b"SELECT 1"]);
        assert_eq!(dialogue.client_sends(&query), Some(statement(Command::Query, "SELECT 1")));
        assert!(dialogue.server_sends(&packet(1, &[&[1]])));
        assert!(!dialogue.server_sends(&packet(2, &[b"a column"])));
    }

    #[test]
    fn an_execution_has_the_text_of_its_prepared_statement() {
        let mut dialogue = Dialogue::default();
        let prepare = packet(0, &[&[COM_STMT_PREPARE], b"SELECT ?"]);
        assert_eq!(dialogue.client_sends(&prepare), Some(statement(Command::Prepare, "SELECT ?")));
        assert!(dialogue.server_sends(&packet(1, &[&[REPLY_OK, 7, 1, 0, 0, 1, 0]])));
        // Neither of these has a reply that the next command's could be taken for.
        for command in [COM_STMT_SEND_LONG_DATA, COM_STMT_CLOSE] {
            assert_eq!(dialogue.client_sends(&packet(0, &[&[command, 9, 0, 0, 0]])), None);
        }
        let execute = packet(0, &[&[COM_STMT_EXECUTE, 7, 1, 0, 0, 0]]);
        assert_eq!(dialogue.client_sends(&execute), Some(statement(Command::Execute, "SELECT ?")));
        assert!(dialogue.server_sends(&packet(1, &[&[1]])));
        let unknown = packet(0, &[&[COM_STMT_EXECUTE, 8, 1, 0, 0, 0]]);
        assert_eq!(dialogue.client_sends(&unknown), None);
    }

    #[test]
    fn a_statement_that_cannot_be_prepared_has_no_number() {
        let mut dialogue = Dialogue::default();
        dialogue.client_sends(&packet(0, &[&[COM_STMT_PREPARE], b"SELEC"]));
        assert!(dialogue.server_sends(&packet(1, &[&[0xff, 7, 1, 0, 0]])));
        assert_eq!(dialogue.client_sends(&packet(0, &[&[COM_STMT_EXECUTE, 7, 1, 0, 0]])), None);
    }

    #[test]
    fn a_file_is_not_taken_for_commands_when_its_packets_are_numbered_from_0_again() {
        let mut dialogue = Dialogue::default();
        dialogue.client_sends(&packet(0, &[&[COM_QUERY], b"LOAD DATA LOCAL INFILE 'rows'"]));
        assert!(!dialogue.server_sends(&packet(1, &[&[REPLY_INFILE], b"rows"])));
        for sequence in [2, 255, 0, 1] {
            assert_eq!(dialogue.client_sends(&packet(sequence, &[&[COM_QUERY], b"DROP"])), None);
        }
        assert_eq!(dialogue.client_sends(&packet(0, &[])), None);
        assert!(dialogue.server_sends(&packet(1, &[&[REPLY_OK]])));
        let next = packet(0, &[&[COM_QUERY], b"COMMIT"]);
        assert_eq!(dialogue.client_sends(&next), Some(statement(Command::Query, "COMMIT")));
    }
}
