//! A page that says what it is: whoever holds its bytes can tell whether they are whole, which page
//! they are of, and which version.
//!
//! ```text
//! page 8123456789 57 1f0c… pages/03/page-19.txt      version, bytes of the text, hash, name
//! version 8123456789 of pages/03/page-19.txt         the text
//! ```

/// One version of a page.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Page {
    /// Its path below the root of the site.
    pub name: String,
    /// Its version; a later one has a higher number.
    pub number: u64,
}

impl Page {
    /// Its bytes; `length`: of the text, at least.
    pub fn bytes(&self, length: usize) -> Vec<u8> {
        let line = format!("version {} of {}\n", self.number, self.name);
        let text = line.repeat(length / line.len() + 1);
        let hash = self.hash(text.as_bytes());
        let head = format!("page {} {} {hash} {}\n", self.number, text.len(), self.name);
        [head, text].concat().into_bytes()
    }

    /// The page whose bytes these are; `None` if they are not all of one page.
    pub fn read(bytes: &[u8]) -> Option<Page> {
        let end = bytes.iter().position(|&byte| byte == b'\n')?;
        let (head, text) = bytes.split_at_checked(end + 1)?;
        let head = std::str::from_utf8(head).ok()?.trim_end();
        let mut words = head.strip_prefix("page ")?.splitn(4, ' ');
        let number = words.next()?.parse().ok()?;
        let length: usize = words.next()?.parse().ok()?;
        let hash = words.next()?;
        let page = Page { name: words.next()?.to_owned(), number };
        (text.len() == length && page.hash(text) == hash).then_some(page)
    }

    fn hash(&self, text: &[u8]) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.number.to_le_bytes());
        hasher.update(&(self.name.len() as u64).to_le_bytes()).update(self.name.as_bytes());
        hasher.update(text).finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn a_page_knows_itself_and_what_is_not_whole() {
        let page = Page { name: "pages/a b.txt".into(), number: 7 };
        let bytes = page.bytes(10_000);
        assert!(bytes.len() > 10_000);
        assert_eq!(Page::read(&bytes), Some(page.clone()));
        assert_eq!(Page::read(&page.bytes(0)), Some(page.clone()));
        for cut in [0, 1, 20, 4096, bytes.len() - 1] {
            assert_eq!(Page::read(&bytes[..cut]), None, "the first {cut} bytes");
        }
        for place in [6, 60, 5000, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[place] ^= 1;
            assert_ne!(Page::read(&other), Some(page.clone()), "byte {place}");
        }
        // Half of one version and half of the next.
        let next = Page { number: 8, ..page }.bytes(10_000);
        assert_eq!(next.len(), bytes.len());
        let mixed = [&next[..4096], &bytes[4096..]].concat();
        assert_eq!(Page::read(&mixed), None);
        assert_eq!(Page::read(b"<html>no page of ours</html>\n"), None);
    }
}
