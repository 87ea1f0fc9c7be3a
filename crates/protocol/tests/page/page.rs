//! The page as data: its tables and its examples.

use std::{collections::BTreeMap, fs, path::PathBuf};

use bytes::Bytes;

/// What stands on the page.
pub(crate) struct Page {
    /// Fields by message, in the order of the page.
    pub(crate) tables: BTreeMap<String, Vec<Row>>,
    /// Names and numbers by enumeration.
    pub(crate) codes: BTreeMap<String, Vec<(String, i32)>>,
    /// Bytes by name.
    pub(crate) examples: BTreeMap<String, Vec<u8>>,
    /// The text with every run of white space as one space.
    text: String,
}

/// A field as a table has it.
pub(crate) struct Row {
    pub(crate) number: u32,
    pub(crate) name: String,
    kind: String,
    pub(crate) cap: String,
}

impl Row {
    /// The wire type that protobuf gives to this type. Lists of numbers are packed.
    pub(crate) fn wire_type(&self) -> u8 {
        let kind = self.kind.trim_start_matches("optional ");
        let scalar = kind.trim_start_matches("repeated ");
        let packed = scalar != kind;
        match scalar {
            "uint32" | "uint64" | "bool" => 2 * u8::from(packed),
            "float" if !packed => 5,
            "fixed64" => 1,
            number if number.starts_with("enum ") => 0,
            _ => 2,
        }
    }

    /// The most bytes of one entry, where the cap is in bytes.
    pub(crate) fn bytes_cap(&self) -> Option<usize> {
        let scalar = self.kind.trim_start_matches("repeated ");
        if !matches!(scalar, "bytes" | "string") {
            return None;
        }
        self.cap.rsplit(' ').next()?.parse().ok()
    }
}

/// A field as the wire has it.
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) wire_type: u8,
    pub(crate) bytes: Option<Bytes>,
    pub(crate) varint: Option<u64>,
}

/// Takes a protobuf message apart without knowing what it is.
pub(crate) fn fields_of(message: &[u8]) -> Vec<Field> {
    let mut rest = message;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest);
        let wire_type = (key & 7) as u8;
        let (mut bytes, mut number) = (None, None);
        match wire_type {
            0 => number = Some(varint(&mut rest)),
            1 => rest = &rest[8..],
            2 => {
                let len = varint(&mut rest) as usize;
                bytes = Some(Bytes::copy_from_slice(&rest[..len]));
                rest = &rest[len..];
            }
            5 => rest = &rest[4..],
            other => panic!("wire type {other}"),
        }
        fields.push(Field {
            number: (key >> 3) as u32,
            wire_type,
            bytes,
            varint: number,
        });
    }
    fields
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, tail) = rest.split_first().expect("a whole varint");
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

const FIELDS: &str = "| No | Field | Type | Cap | Meaning |";
const FENCE: &str = "```hex ";
/// Hex digits in a line of an example.
const LINE: usize = 96;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md")
}

impl Page {
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string(path()).expect("docs/protocol.md");
        let mut page = Self {
            tables: BTreeMap::new(),
            codes: BTreeMap::new(),
            examples: BTreeMap::new(),
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        let mut section = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(name) = line.strip_prefix("### ") {
                section = name.to_owned();
            } else if line == FIELDS {
                let rows = cells(&mut lines)
                    .map(|cells| Row {
                        number: cells[0].parse().expect("a field's number"),
                        name: cells[1].clone(),
                        kind: cells[2].clone(),
                        cap: cells[3].clone(),
                    })
                    .collect();
                page.tables.insert(section.clone(), rows);
            } else if let Some(name) = line
                .strip_prefix("| ")
                .and_then(|line| line.strip_suffix(" | No | Meaning |"))
            {
                let codes = cells(&mut lines)
                    .map(|cells| (cells[0].clone(), cells[1].parse().expect("a code")))
                    .collect();
                page.codes.insert(name.to_owned(), codes);
            } else if let Some(name) = line.strip_prefix(FENCE) {
                let hex: String = lines.by_ref().take_while(|line| *line != "```").collect();
                let bytes = hex::decode(hex).expect("an example in hex");
                page.examples.insert(name.to_owned(), bytes);
            }
        }
        page
    }

    /// Fails unless these words stand on the page, wherever its lines break.
    pub(crate) fn says(&self, words: &str) {
        assert!(self.text.contains(words), "the page does not say: {words}");
    }

    /// Puts these bytes into the examples of their names.
    pub(crate) fn record(examples: &[(&str, Bytes)]) {
        let text = fs::read_to_string(path()).expect("docs/protocol.md");
        let mut out = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            out.push_str(line);
            out.push('\n');
            let Some(name) = line.strip_prefix(FENCE) else {
                continue;
            };
            for _ in lines.by_ref().take_while(|line| *line != "```") {}
            if let Some((_, bytes)) = examples.iter().find(|(known, _)| *known == name) {
                let hex = hex::encode(bytes).into_bytes();
                for line in hex.chunks(LINE) {
                    out.push_str(std::str::from_utf8(line).expect("hex is ASCII"));
                    out.push('\n');
                }
            }
            out.push_str("```\n");
        }
        fs::write(path(), out).expect("docs/protocol.md can be written");
    }
}

/// The rows of a table behind its head, without the marks of code.
fn cells<'a>(lines: &mut impl Iterator<Item = &'a str>) -> impl Iterator<Item = Vec<String>> {
    let rows: Vec<Vec<String>> = lines
        .by_ref()
        .take_while(|line| line.starts_with('|'))
        .filter(|line| !line.starts_with("|---"))
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().trim_matches('`').to_owned())
                .collect()
        })
        .collect();
    rows.into_iter()
}
