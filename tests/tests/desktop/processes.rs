//! The processes of the program, and what their memory holds.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
};

/// A process below the program, with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub id: i32,
    pub name: String,
}

/// The program and everything below it, now.
pub(crate) fn below(root: i32) -> Vec<Process> {
    let mut found = Vec::new();
    let mut left = vec![root];
    while let Some(id) = left.pop() {
        let Ok(name) = std::fs::read_to_string(format!("/proc/{id}/comm")) else {
            continue;
        };
        found.push(Process {
            id,
            name: name.trim().to_owned(),
        });
        let tasks = std::fs::read_dir(format!("/proc/{id}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children"));
            left.extend(
                children
                    .unwrap_or_default()
                    .split_whitespace()
                    .filter_map(|child| child.parse::<i32>().ok()),
            );
        }
    }
    found
}

impl Process {
    /// Whether it draws pages. The system cuts names after 15 letters.
    pub(crate) fn draws_pages(&self) -> bool {
        self.name.starts_with("WebKitWebProces")
    }

    /// Whether a text stands in its command line or environment.
    pub(crate) fn was_told(&self, text: &str) -> bool {
        ["cmdline", "environ"].iter().any(|file| {
            let bytes = std::fs::read(format!("/proc/{}/{file}", self.id)).unwrap_or_default();
            holds(&bytes, text.as_bytes())
        })
    }

    /// Whether a text stands in its memory, in UTF-8 or in UTF-16.
    pub(crate) fn remembers(&self, text: &str) -> bool {
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let maps = File::open(format!("/proc/{}/maps", self.id)).expect("a process that runs");
        let mut memory = File::open(format!("/proc/{}/mem", self.id)).expect("its memory");
        let mut block = Vec::new();
        for line in BufReader::new(maps).lines().map_while(Result::ok) {
            let mut fields = line.split_whitespace();
            let (Some(range), Some(rights)) = (fields.next(), fields.next()) else {
                continue;
            };
            // What cannot be written holds the program's own text.
            if !rights.starts_with("rw") {
                continue;
            }
            let Some((start, end)) = range.split_once('-') else {
                continue;
            };
            let parse = |text| u64::from_str_radix(text, 16).unwrap();
            let (start, end) = (parse(start), parse(end));
            if memory.seek(SeekFrom::Start(start)).is_err() {
                continue;
            }
            block.clear();
            // Memory that was reserved and never touched cannot be read: what was read before it counts.
            let _ = (&mut memory).take(end - start).read_to_end(&mut block);
            if holds(&block, text.as_bytes()) || holds(&block, &wide) {
                return true;
            }
        }
        false
    }
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    let first = wanted[0];
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(wanted) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}
