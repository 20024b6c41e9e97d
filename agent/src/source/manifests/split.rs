//! The documents of a YAML stream, found by their markers alone.
//!
//! `---` and `...` at the start of a line end a document wherever they stand, even in the middle of
//! a broken one, so a mistake cannot reach into the next document. The parser sees one document at
//! a time, and never a directive: it takes quadratic time over many of them, and manifests have no
//! use for any.

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// Its text, without markers at its end; a `---` line may come first.
    pub(super) text: &'a str,
    /// Lines of the file before it.
    pub(super) lines_before: usize,
}

impl Document<'_> {
    /// Line of the file, from 1, on which its content begins.
    pub(super) fn first_line(&self) -> usize {
        let is_content = |line: &str| !line.trim().is_empty() && !line.starts_with('#');
        let skipped = self
            .text
            .lines()
            .position(|line| is_content(line) && line.trim() != "---");
        self.lines_before + skipped.unwrap_or(0) + 1
    }
}

/// Splits a stream. Parts that hold nothing but comments and directives are left out.
pub(super) fn split(stream: &str) -> Vec<Document<'_>> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 0, 0);
    let mut end = |start: usize, end: usize, lines_before| {
        let text = &stream[start..end];
        if has_content(text) {
            documents.push(Document { text, lines_before });
        }
    };
    for (line_number, line) in stream.split_inclusive('\n').enumerate() {
        let after = offset + line.len();
        if is_marker(line, "---") {
            end(start, offset, start_line);
            (start, start_line) = (offset, line_number);
        } else if is_marker(line, "...") {
            end(start, offset, start_line);
            (start, start_line) = (after, line_number + 1);
        }
        offset = after;
    }
    end(start, stream.len(), start_line);
    documents
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.trim_start().len() < rest.len() || rest.is_empty())
}

fn has_content(text: &str) -> bool {
    let text = text.strip_prefix("---").unwrap_or(text);
    text.lines()
        .map(str::trim)
        .any(|line| !line.is_empty() && !line.starts_with(['#', '%']))
}

/// Whether the document begins with a directive, which no marker ended.
pub(super) fn starts_with_directive(text: &str) -> bool {
    let mut lines = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.next().is_some_and(|line| line.starts_with('%'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(stream: &str) -> Vec<(&str, usize)> {
        split(stream)
            .into_iter()
            .map(|document| (document.text, document.lines_before))
            .collect()
    }

    #[test]
    fn documents_end_at_markers_only() {
        let cases: [(&str, &[(&str, usize)]); 14] = [
            ("", &[]),
            ("\n# nothing\n", &[]),
            ("a: 1", &[("a: 1", 0)]),
            ("a: 1\n---\nb: 2\n", &[("a: 1\n", 0), ("---\nb: 2\n", 1)]),
            (
                "---\na: 1\n---\n---\n# x\n---\nb: 2",
                &[("---\na: 1\n", 0), ("---\nb: 2", 5)],
            ),
            (
                "--- {a: 1}\n--- {b: 2}",
                &[("--- {a: 1}\n", 0), ("--- {b: 2}", 1)],
            ),
            ("--- # one\na: 1\n", &[("--- # one\na: 1\n", 0)]),
            ("a: 1\n...\nb: 2\n", &[("a: 1\n", 0), ("b: 2\n", 2)]),
            ("%YAML 1.1\n---\na: 1\n", &[("---\na: 1\n", 1)]),
            ("a: [\n---\nb: 2\n", &[("a: [\n", 0), ("---\nb: 2\n", 1)]),
            ("a: |\n  ---\n  b\n", &[("a: |\n  ---\n  b\n", 0)]),
            ("a: ---x\n----\n", &[("a: ---x\n----\n", 0)]),
            (
                "a: 1\r\n---\r\nb: 2\r\n",
                &[("a: 1\r\n", 0), ("---\r\nb: 2\r\n", 1)],
            ),
            ("\u{feff}a: 1\n", &[("a: 1\n", 0)]),
        ];
        for (stream, expected) in cases {
            assert_eq!(parts(stream), expected, "{stream:?}");
        }
    }

    #[test]
    fn directives_are_seen_at_the_start_only() {
        for (text, directive) in [
            ("%TAG !a! b\n", true),
            ("# c\n\n%X\na", true),
            ("---\n%x", false),
            ("a: 1", false),
        ] {
            assert_eq!(starts_with_directive(text), directive, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn line_numbers_are_those_of_the_stream(
            lines in prop::collection::vec(
                prop::sample::select(vec!["---", "...", "a: 1", "", "# c", "--- b"]),
                0..20,
            ),
        ) {
            let stream = lines.join("\n");
            for document in split(&stream) {
                let rest: Vec<_> = stream.split('\n').skip(document.lines_before).collect();
                prop_assert!(rest.join("\n").starts_with(document.text));
            }
        }
    }
}
