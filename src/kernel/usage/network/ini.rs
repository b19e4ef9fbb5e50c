//! Files of sections and keys, as systemd and NetworkManager have them.

/// A line `key=value` and the section that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
}

/// All entries in their order. A line that ends in a backslash goes on in the
/// next one (systemd.syntax(7)).
pub(super) fn entries(text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut section = String::new();
    let mut before = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        let line = std::mem::take(&mut before) + line;
        if let Some(unfinished) = line.strip_suffix('\\') {
            before = format!("{unfinished} ");
        } else if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=') {
            found.push(Entry {
                section: section.clone(),
                key: key.trim_end().to_owned(),
                value: value.trim_start().to_owned(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_comments_and_long_lines() {
        let text =
            "a = 0\n[Match]\n# x=1\n;y=2\nName = en* \\\n# between\n  wl*\nno\n[Link]\nk==\n";
        let found = entries(text);
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.section.as_str(), one.key.as_str(), one.value.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("", "a", "0"),
                ("Match", "Name", "en*  wl*"),
                ("Link", "k", "=")
            ]
        );
    }
}
