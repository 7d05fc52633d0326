//! What /proc says about a process (proc_pid_stat(5)).

use std::fs;
use std::io;

/// Who started a process, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// Its parent.
    pub parent: i32,
    /// When it was started, in clock ticks since boot: with its number, it names a process of this boot.
    pub started: u64,
}

/// Looks at a process.
///
/// # Errors
/// There is none.
pub(super) fn stat(pid: i32) -> io::Result<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Every process of this system whose parent is `parent`.
///
/// # Errors
/// /proc cannot be read.
pub(super) fn children(parent: i32) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while we look.
        if stat(pid).is_ok_and(|stat| stat.parent == parent) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Fields count from behind the name, which is in brackets and may hold anything.
fn parse(line: &str) -> Option<Stat> {
    let (_, rest) = line.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    // State is field 3, the parent field 4, the start field 22.
    let parent = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Stat { parent, started })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_confuse() {
        let fields: Vec<String> = (4..=30).map(|number| number.to_string()).collect();
        let line = format!("77 (a) S (b) R {}", fields.join(" "));
        assert_eq!(parse(&line), Some(Stat { parent: 4, started: 22 }));
        assert_eq!(parse("77 (a) R 1 2"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn children_are_found() {
        let me = i32::try_from(std::process::id()).unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(children(me).unwrap().contains(&pid));
        assert_eq!(stat(pid).unwrap().parent, me);
        assert!(stat(pid).unwrap().started >= stat(me).unwrap().started);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children(me).unwrap().contains(&pid));
        stat(pid).unwrap_err();
    }
}
