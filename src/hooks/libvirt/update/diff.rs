//! What an update changes, for people.

/// The lines that differ, each with a line end: `- ` of what goes and `+ ` of what
/// comes. An update replaces values in their lines, or puts in and takes out whole
/// elements: lines are compared one by one where none came or went.
#[must_use]
pub fn diff(before: &str, after: &str) -> String {
    let (before, after): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let same = |(one, other): &(&&str, &&str)| one == other;
    let start = before.iter().zip(&after).take_while(same).count();
    let (old, new) = (tail(&before, start), tail(&after, start));
    let end = old.iter().rev().zip(new.iter().rev());
    let end = end.take_while(same).count();
    let (old, new) = (head(old, end), head(new, end));
    let say = |sign: char, lines: &[&str]| -> String {
        lines
            .iter()
            .map(|line| format!("{sign} {line}\n"))
            .collect()
    };
    if old.len() != new.len() {
        return say('-', old) + &say('+', new);
    }
    let pairs = old.iter().zip(new).filter(|(one, other)| one != other);
    pairs
        .map(|(one, other)| say('-', &[one]) + &say('+', &[other]))
        .collect()
}

fn tail<'a, 't>(lines: &'a [&'t str], from: usize) -> &'a [&'t str] {
    lines.get(from..).unwrap_or_default()
}

fn head<'a, 't>(lines: &'a [&'t str], without: usize) -> &'a [&'t str] {
    let count = lines.len().saturating_sub(without);
    lines.get(..count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        for (before, after, expected) in [
            ("a\nb\n", "a\nb\n", ""),
            ("a\nb\nc\nd\ne\n", "a\nB\nc\nD\ne\n", "- b\n+ B\n- d\n+ D\n"),
            ("a\nb\nz\n", "a\nb\nx\ny\nz\n", "+ x\n+ y\n"),
            ("a\nb\na\nb\n", "a\nb\n", "- a\n- b\n"),
            ("a\nb\nc\n", "A\nc\n", "- a\n- b\n+ A\n"),
            ("", "a", "+ a\n"),
        ] {
            assert_eq!(diff(before, after), expected, "{before:?}");
        }
    }
}
