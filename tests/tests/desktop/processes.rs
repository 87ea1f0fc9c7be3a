//! The processes of the program, and what their memory holds.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::unix::fs::FileExt as _,
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

    /// The first of these texts that stands in its command line or environment.
    pub(crate) fn was_told<'t>(&self, texts: &'t [String]) -> Option<&'t str> {
        let wanted = Wanted::new(texts);
        ["cmdline", "environ"].iter().find_map(|file| {
            let bytes = std::fs::read(format!("/proc/{}/{file}", self.id)).unwrap_or_default();
            wanted.find(&bytes)
        })
    }

    /// The first of these texts that stands in its memory, in UTF-8 or in UTF-16. Only pages that are there are read: a page's
    /// process reserves many gigabytes and touches few.
    pub(crate) fn remembers<'t>(&self, texts: &'t [String]) -> Option<&'t str> {
        let wanted = Wanted::new(texts);
        let maps = File::open(format!("/proc/{}/maps", self.id)).expect("a process that runs");
        let memory = File::open(format!("/proc/{}/mem", self.id)).expect("its memory");
        let pages = File::open(format!("/proc/{}/pagemap", self.id)).expect("its pages");
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
            // What crosses the end of a block is in the one before as well.
            let mut before: Vec<u8> = Vec::new();
            for run in present(&pages, parse(start) / PAGE, parse(end) / PAGE) {
                let mut block = vec![0; usize::try_from((run.end - run.start) * PAGE).unwrap()];
                if memory.read_exact_at(&mut block, run.start * PAGE).is_err() {
                    before.clear();
                    continue;
                }
                if !run.follows {
                    before.clear();
                }
                before.extend_from_slice(&block);
                if let Some(found) = wanted.find(&before) {
                    return Some(found);
                }
                let kept = before.len().saturating_sub(wanted.longest);
                before.drain(..kept);
            }
        }
        None
    }
}

const PAGE: u64 = 4096;
/// Pages that are read at once.
const AT_ONCE: u64 = 1024;

/// Pages that are in memory, by their numbers.
struct Run {
    start: u64,
    end: u64,
    /// Nothing lies between it and the one before.
    follows: bool,
}

fn present(pages: &File, start: u64, end: u64) -> Vec<Run> {
    const PRESENT: u64 = 1 << 63;
    let mut runs: Vec<Run> = Vec::new();
    let mut at = start;
    while at < end {
        let count = (end - at).min(64 * 1024);
        let mut entries = vec![0; usize::try_from(count * 8).unwrap()];
        if pages.read_exact_at(&mut entries, at * 8).is_err() {
            break;
        }
        for (index, entry) in entries.chunks_exact(8).enumerate() {
            let page = at + index as u64;
            if u64::from_le_bytes(entry.try_into().unwrap()) & PRESENT == 0 {
                continue;
            }
            let follows = runs.last().is_some_and(|run| run.end == page);
            match runs.last_mut() {
                Some(run) if follows && run.end - run.start < AT_ONCE => run.end += 1,
                _ => runs.push(Run {
                    start: page,
                    end: page + 1,
                    follows,
                }),
            }
        }
        at += count;
    }
    runs
}

/// Texts to look for, all in one pass: memory is large, and this code is not optimised.
struct Wanted<'t> {
    /// The forms of each text, with the text.
    forms: Vec<(Vec<u8>, &'t str)>,
    /// Which bytes a form begins with.
    begins: [bool; 256],
    longest: usize,
}

impl<'t> Wanted<'t> {
    fn new(texts: &'t [String]) -> Self {
        let mut forms = Vec::new();
        let mut begins = [false; 256];
        for text in texts {
            let wide = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            for form in [text.clone().into_bytes(), wide] {
                begins[usize::from(form[0])] = true;
                forms.push((form, text.as_str()));
            }
        }
        let longest = forms.iter().map(|(form, _)| form.len()).max();
        Self {
            forms,
            begins,
            longest: longest.unwrap_or_default(),
        }
    }

    fn find(&self, bytes: &[u8]) -> Option<&'t str> {
        for (at, byte) in bytes.iter().enumerate() {
            if !self.begins[usize::from(*byte)] {
                continue;
            }
            let rest = &bytes[at..];
            let found = self.forms.iter().find(|(form, _)| rest.starts_with(form));
            if let Some((_, text)) = found {
                return Some(text);
            }
        }
        None
    }
}
