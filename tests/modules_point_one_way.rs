//! Which module may use which (`src/lib.rs`, "Who may use whom"), read off the source itself; and the core knows no
//! socket, no thread, no file, no process and no runtime.

use regex::Regex;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of `src/` and the modules it may use besides itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("time", &[]),
    ("event", &["id", "time"]),
    ("media", &["id", "time", "event"]),
    ("call", &["id", "time", "event", "media"]),
    ("speech", &["id", "time", "event", "media"]),
    ("coach", &["id", "time", "event"]),
    ("session", &["id", "time", "event", "media", "call", "speech", "coach"]),
    ("config", &["id", "time", "event", "media", "call", "speech", "coach"]),
    ("io", &["id", "time", "event", "media", "call", "speech", "coach", "session", "config"]),
    ("app", &["id", "time", "event", "media", "call", "speech", "coach", "session", "config", "io"]),
    ("cli", &["id", "time", "event", "media", "call", "speech", "coach", "session", "config", "io", "app"]),
    ("main", &["cli"]),
];

/// Driven by inputs alone.
const CORE: &[&str] = &["id", "time", "event", "media", "call", "speech", "coach", "session"];

/// What the core may not name: the world outside of its inputs. (`std::net::SocketAddr` is a value, not a socket.)
const OUTSIDE: &[&str] = &[
    "tokio",
    "rustix",
    "io_uring",
    "crossbeam_channel",
    "socket2",
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
];

#[test]
fn modules_point_one_way() {
    let mut faults = String::new();
    for path in rust_files(Path::new("src")) {
        let source = fs::read_to_string(&path).unwrap();
        for fault in check(&path, &source) {
            writeln!(faults, "  {fault}").unwrap();
        }
    }
    assert!(faults.is_empty(), "dependencies must point one way (src/lib.rs, \"Who may use whom\"):\n{faults}");
}

#[test]
fn every_module_has_its_place() {
    for path in rust_files(Path::new("src")) {
        let module = top(&path);
        let known = module == "lib" || MAY_USE.iter().any(|(name, _)| *name == module);
        assert!(known, "{}: decide in this test and in src/lib.rs which modules {module} may use", path.display());
    }
}

#[test]
fn planted_violations_are_found() {
    let planted = [
        ("src/call/mode.rs", "use crate::io::clock;", "call may not use io"),
        ("src/call/mode.rs", "use crate::{\n    event::Event,\n    io::{self, rtp::open},\n};", "call may not use io"),
        ("src/media/mix.rs", "fn f() { crate::call::g() }", "media may not use call"),
        ("src/coach/mod.rs", "pub use super::media::codec::Codec;", "coach may not use media"),
        ("src/speech/vad.rs", "use super::super::config::Config;", "speech may not use config"),
        ("src/io/shard.rs", "use crate::app::App;", "io may not use app"),
        ("src/main.rs", "fn main() { sotto::io::run() }", "main may not use io"),
        ("src/media/jitter.rs", "fn f() { std::thread::spawn(g); }", "the core may not name std::thread"),
        ("src/session.rs", "use std::{fs, io};", "the core may not name std::fs"),
        ("src/call/mod.rs", "use std::net::{SocketAddr, UdpSocket};", "the core may not name std::net::UdpSocket"),
        ("src/coach/mod.rs", "use tokio::sync::mpsc;", "the core may not name tokio"),
    ];
    for (path, source, expected) in planted {
        let faults = check(Path::new(path), source);
        assert!(faults.iter().any(|f| f.contains(expected)), "{path}: {source:?} gave {faults:?}");
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    let allowed = [
        ("src/call/mode.rs", "use crate::{event::Event, media::codec::Codec};\nuse super::FRAME;"),
        ("src/call/mode.rs", "//! See [`crate::io::shard`].\n/* crate::io /* tokio */ */\nuse std::net::SocketAddr;"),
        ("src/media/rtp.rs", "const TEXT: &str = \"use crate::io; \\\" tokio::spawn\"; const QUOTE: char = '\"';"),
        ("src/media/rtp.rs", "const TEXT: &str = r#\"use \"crate::io\";\"#; fn f<'a>(tokio: &'a str) {}"),
        ("src/io/rtp.rs", "use std::net::UdpSocket; use crate::config::Config;"),
        ("src/cli/demo/mod.rs", "use crate::app::App;"),
    ];
    for (path, source) in allowed {
        assert_eq!(check(Path::new(path), source), Vec::<String>::new(), "{path}: {source:?}");
    }
}

/// Every breach of the rule in one file.
fn check(path: &Path, source: &str) -> Vec<String> {
    let module = top(path);
    let may_use = MAY_USE.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed).unwrap_or_default();
    let mut faults = Vec::new();
    for (line, used) in paths(&code_only(source)) {
        let at = format!("{}:{line}", path.display());
        if let Some(other) = top_level(path, &used).filter(|other| *other != module && !may_use.contains(other)) {
            faults.push(format!("{at}: {module} may not use {other}, only {} ({used})", may_use.join(" ")));
        }
        if !CORE.contains(&module.as_str()) {
            continue;
        }
        let outside = |name: &&&str| used == ***name || used.starts_with(&format!("{name}::"));
        if let Some(name) = OUTSIDE.iter().find(outside) {
            faults.push(format!("{at}: the core may not name {name}: it is driven by inputs that carry the time"));
        }
    }
    faults
}

/// The module of `src/` that a file belongs to.
fn top(path: &Path) -> String {
    let inside = path.strip_prefix("src").unwrap();
    inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The module of `src/` that a path in `file` leads into, if it leads into one.
fn top_level(file: &Path, used: &str) -> Option<&'static str> {
    let mut segments = used.split("::").peekable();
    let first = segments.next()?;
    let name = match first {
        "crate" | "sotto" => segments.next()?,
        "super" => {
            let mut climbed = 1;
            while segments.next_if_eq(&"super").is_some() {
                climbed += 1;
            }
            if climbed < depth(file) {
                return None;
            }
            segments.next()?
        }
        _ => return None,
    };
    MAY_USE.iter().map(|(module, _)| *module).find(|module| *module == name)
}

/// How many `super` lead from a file's module to the root.
fn depth(file: &Path) -> usize {
    let inside = file.strip_prefix("src").unwrap();
    inside.components().count() - usize::from(inside.ends_with("mod.rs"))
}

/// Every path that is imported or spelt out, with its line.
fn paths(code: &str) -> Vec<(usize, String)> {
    let import = Regex::new(r"\buse\s+([^;]+);").unwrap();
    let inline = Regex::new(r"\b[A-Za-z_]\w*(?:::[A-Za-z_]\w*)+").unwrap();
    let line = |offset: usize| code[..offset].matches('\n').count() + 1;
    let mut found = Vec::new();
    for capture in import.captures_iter(code) {
        let tree: String = capture[1].split_whitespace().collect::<Vec<_>>().join(" ");
        expand("", &tree, &mut |path| found.push((line(capture.get(0).unwrap().start()), path)));
    }
    found.extend(inline.find_iter(code).map(|m| (line(m.start()), m.as_str().to_owned())));
    found
}

/// A use tree as full paths: `a::{b, c::{self, d}}` is `a::b`, `a::c`, `a::c::d`.
fn expand(prefix: &str, tree: &str, found: &mut impl FnMut(String)) {
    let tree = tree.trim();
    match tree.split_once('{') {
        None => {
            let name = tree.split(" as ").next().unwrap().trim();
            let path = format!("{prefix}{name}");
            found(path.trim_end_matches("::self").trim_end_matches("::*").to_owned());
        }
        Some((before, rest)) => {
            let inner = rest.strip_suffix('}').unwrap_or(rest);
            for branch in branches(inner) {
                expand(&format!("{prefix}{before}"), branch, found);
            }
        }
    }
}

/// The parts between the commas that are in no inner braces.
fn branches(tree: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (i, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&tree[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&tree[start..]);
    parts.into_iter().filter(|part| !part.trim().is_empty()).collect()
}

/// The source with the insides of comments, strings and character literals blanked; lines stay where they are.
fn code_only(source: &str) -> String {
    let token = Regex::new(
        r##"(?s)//[^\n]*|/\*|r#+"|r"|"(?:[^"\\]|\\.)*"|'(?:[^'\\\n]|\\[^u]|\\u\{[0-9a-fA-F]+\})'|[A-Za-z_0-9]+"##,
    )
    .unwrap();
    let (mut code, mut at) = (String::new(), 0);
    while let Some(found) = token.find_at(source, at) {
        let text = found.as_str();
        let end = match text {
            "/*" => found.start() + comment_length(&source[found.start()..]),
            _ if text.starts_with('r') && text.ends_with('"') => {
                let closing = format!("\"{}", &text[1..text.len() - 1]);
                source[found.end()..].find(&closing).map_or(source.len(), |i| found.end() + i + closing.len())
            }
            _ => found.end(),
        };
        code.push_str(&source[at..found.start()]);
        let kept = text.starts_with(|c: char| c.is_alphanumeric() || c == '_') && !text.ends_with('"');
        match kept {
            true => code.push_str(text),
            false => code.extend(source[found.start()..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
        }
        at = end;
    }
    code.push_str(&source[at..]);
    code
}

/// Of a block comment, which may hold others.
fn comment_length(text: &str) -> usize {
    let mark = Regex::new(r"/\*|\*/").unwrap();
    let mut open = 0;
    for found in mark.find_iter(text) {
        open += if found.as_str() == "/*" { 1 } else { -1 };
        if open == 0 {
            return found.end();
        }
    }
    text.len()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}
