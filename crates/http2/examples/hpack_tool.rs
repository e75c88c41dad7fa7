//! Our HPACK behind a pipe, so that other implementations can be compared with it: a line in, a line out.
//!
//! | line | answer |
//! |---|---|
//! | `decoder BYTES` | a new decoder that offers a table of BYTES: `ok` |
//! | `limit BYTES` | the decoder offers a table of BYTES from now on: `ok` |
//! | `decode HEX` | `ok FIELD…`, `too-large FIELD…` or `error WHY` |
//! | `encoder BYTES` | a new encoder with a table of BYTES at most: `ok` |
//! | `peer BYTES` | the peer's decoder offers BYTES from now on: `ok` |
//! | `encode FIELD…` | `ok HEX` |
//!
//! FIELD is `NAME:VALUE` in hexadecimal digits; in front stands `!` if it must never be in a table, `*` if its sender used a
//! reference, so that it is worth an entry.

use std::io::{self, BufRead, Write};

use evenkeel_http2::field::{FieldBlock, FieldStore};
use evenkeel_http2::hpack::{Decoder, Encoder, HeaderListLimits, ListVerdict};

/// Wide enough that only a connection's own limits are left out of the comparison.
const LIMITS: HeaderListLimits =
    HeaderListLimits { list_bytes: 256 * 1024, fields: 1_000, string_bytes: 60_000 };

fn main() -> io::Result<()> {
    let mut tool = Tool::new();
    let mut stdout = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let answer = tool.answer(&line?).unwrap_or_else(|| "error not understood".to_owned());
        writeln!(stdout, "{answer}")?;
        stdout.flush()?;
    }
    tool.decoder.clear(&mut tool.store);
    tool.encoder.clear(&mut tool.store);
    Ok(())
}

struct Tool {
    store: FieldStore,
    decoder: Decoder,
    encoder: Encoder,
}

impl Tool {
    fn new() -> Self {
        Self { store: FieldStore::new(1), decoder: Decoder::new(4096), encoder: Encoder::new(4096) }
    }

    /// The answer to a line; `None` if it is not understood.
    fn answer(&mut self, line: &str) -> Option<String> {
        let (command, argument) = line.split_once(' ').unwrap_or((line, ""));
        match command {
            "decode" => return Some(self.decode(&unhex(argument)?)),
            "encode" => return self.encode(argument),
            "decoder" => {
                self.decoder.clear(&mut self.store);
                self.decoder = Decoder::new(argument.parse().ok()?);
            }
            "encoder" => {
                self.encoder.clear(&mut self.store);
                self.encoder = Encoder::new(argument.parse().ok()?);
            }
            "limit" => self.decoder.set_table_limit(argument.parse().ok()?),
            "peer" => self.encoder.set_peer_limit(argument.parse().ok()?),
            _ => return None,
        }
        Some("ok".to_owned())
    }

    fn decode(&mut self, bytes: &[u8]) -> String {
        let mut list = FieldBlock::new();
        let verdict = self.decoder.decode(bytes, &LIMITS, &mut self.store, &mut list);
        let mut answer = match verdict {
            Ok(ListVerdict::Accepted) => "ok".to_owned(),
            Ok(ListVerdict::TooLarge) => "too-large".to_owned(),
            Err(error) => format!("error {error}"),
        };
        if verdict.is_ok() {
            for field in list.iter(&self.store) {
                let mark = match (field.never_index, field.by_reference) {
                    (true, _) => "!",
                    (_, true) => "*",
                    _ => "",
                };
                answer.push_str(&format!(" {mark}{}:{}", hex(field.name), hex(field.value)));
            }
        }
        list.clear(&mut self.store);
        answer
    }

    fn encode(&mut self, fields: &str) -> Option<String> {
        let mut list = FieldBlock::new();
        for field in fields.split_ascii_whitespace() {
            let plain = field.trim_start_matches(['*', '!']);
            let (name, value) = plain.split_once(':')?;
            let (name, value) = (unhex(name)?, unhex(value)?);
            if field.starts_with('*') {
                let id = self.store.intern(&name, &value);
                list.push_id(&mut self.store, id, true);
                self.store.release(id);
            } else {
                list.push_literal(&name, &value, field.starts_with('!'));
            }
        }
        let mut out = Vec::new();
        self.encoder.encode_block(&mut self.store, &list, &mut out);
        list.clear(&mut self.store);
        Some(format!("ok {}", hex(&out)))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
