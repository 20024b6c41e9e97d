//! From the text of one file to objects and problems.
//!
//! Pure. Each document, and each item of a `List`, stands for itself: what is wrong with one takes
//! nothing from the others. Each step that may refuse says which object it was about, if the text
//! tells, because that object's last good state is to stay.

mod parsed;
mod typed;

use std::fmt::Write as _;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::kind::{ReadAs, list_items, read_as};
use super::locate;
use super::split::{Document, split, starts_with_directive};
use super::tree::{self, Syntax};
use crate::source::finding::problem;
use crate::source::{Findings, convert};
use crate::state::{Kind, Object, ObjectKey, Severity};

pub(super) use parsed::{Item, ParsedFile};
use typed::{key, typed};

/// Problems that are listed for one file; the others are counted.
const MAX_PROBLEMS: usize = 100;

/// Documents larger than this have problems without the line of the field: finding it reads the
/// document once more for each.
const MAX_LOCATED_BYTES: usize = 256 << 10;

/// Reads a file. `origin` is its name in problems.
pub(super) fn parse(origin: &str, syntax: Syntax, text: &str) -> ParsedFile {
    let mut parser = Parser {
        origin,
        syntax,
        file: ParsedFile::default(),
        unlisted: 0,
    };
    let documents = match syntax {
        Syntax::Yaml => split(text),
        Syntax::Json => vec![Document {
            text,
            lines_before: 0,
        }],
    };
    for document in documents {
        parser.document(document);
    }
    let mut file = parser.file;
    if parser.unlisted > 0 {
        let message = format!(
            "{} further problems in this file are not listed",
            parser.unlisted
        );
        file.problems.push(problem(
            Severity::Error,
            origin.to_owned(),
            &"",
            "",
            message,
        ));
    }
    file
}

struct Parser<'a> {
    origin: &'a str,
    syntax: Syntax,
    file: ParsedFile,
    /// Problems beyond the limit.
    unlisted: usize,
}

/// The part of a document that one object is.
#[derive(Clone, Copy)]
struct Place<'a> {
    document: Document<'a>,
    /// Path of the object within the document: empty, or `items[N]`.
    path: &'a str,
}

impl Parser<'_> {
    fn document(&mut self, document: Document<'_>) {
        let place = Place { document, path: "" };
        if starts_with_directive(document.text) {
            self.file.lost_something = true;
            return self.report(
                place,
                None,
                Severity::Error,
                "",
                "a directive needs a --- line",
            );
        }
        let tree = match tree::read(self.syntax, document.text) {
            Ok(tree) => tree,
            Err(error) => {
                self.file.lost_something = true;
                let line = error.line.unwrap_or(1) + document.lines_before;
                let message = shift_lines(&error.message, document.lines_before);
                return self.push(line, None, Severity::Error, "", message);
            }
        };
        for key in &tree.repeated_keys {
            let message = format!("the key {key:?} is given twice in one mapping; the last counts");
            self.report(place, None, Severity::Warning, "", message);
        }
        match list_items(&tree.value) {
            Some(items) => {
                for (at, item) in items.into_iter().enumerate() {
                    self.object(
                        Place {
                            document,
                            path: &format!("items[{at}]"),
                        },
                        &item,
                    );
                }
            }
            None if tree.value.is_null() => {}
            None => self.object(place, &tree.value),
        }
    }

    fn object(&mut self, place: Place<'_>, value: &Value) {
        let kind = match read_as(value) {
            ReadAs::Kind(kind) => kind,
            ReadAs::NotRead(message) => {
                return self.report(place, None, Severity::Warning, "kind", message);
            }
            ReadAs::Unclear {
                field,
                message,
                lost,
            } => {
                self.file.lost_something |= lost.is_none();
                let key = lost.and_then(|kind| key(kind, value));
                self.report(place, key.as_ref(), Severity::Error, field, message);
                return self.refuse(place, key);
            }
        };
        let key = key(kind, value);
        let object = match kind {
            Kind::Service => self
                .convert(place, key.as_ref(), value, convert::service)
                .map(Object::Service),
            Kind::EndpointSlice => self
                .convert(place, key.as_ref(), value, convert::endpoint_slice)
                .map(Object::EndpointSlice),
            Kind::Pod => self
                .convert(place, key.as_ref(), value, convert::pod)
                .map(Object::Pod),
            Kind::Node => self
                .convert(place, key.as_ref(), value, convert::node)
                .map(Object::Node),
            Kind::Namespace => self
                .convert(place, key.as_ref(), value, convert::namespace)
                .map(Object::Namespace),
        };
        match object {
            Some(object) => {
                let (key, line) = (object.key(), place.document.first_line());
                self.file.items.push(Item {
                    key,
                    line,
                    object: Some(Arc::new(object)),
                    manifest: value.to_string(),
                });
            }
            None => self.refuse(place, key),
        }
    }

    fn refuse(&mut self, place: Place<'_>, key: Option<ObjectKey>) {
        match key {
            Some(key) => {
                let line = place.document.first_line();
                self.file.items.push(Item {
                    key,
                    line,
                    object: None,
                    manifest: String::new(),
                });
            }
            None => self.file.lost_something = true,
        }
    }

    fn convert<K: DeserializeOwned, T>(
        &mut self,
        place: Place<'_>,
        key: Option<&ObjectKey>,
        value: &Value,
        convert: impl FnOnce(&K, &mut Findings) -> Option<T>,
    ) -> Option<T> {
        let (object, unknown) = match typed::<K>(value) {
            Ok(typed) => typed,
            Err((path, message)) => {
                self.report(place, key, Severity::Error, &path, message);
                return None;
            }
        };
        for field in unknown {
            self.report(
                place,
                key,
                Severity::Warning,
                &field,
                "unknown field, ignored",
            );
        }
        let mut findings = Findings::default();
        let converted = convert(&object, &mut findings);
        for finding in findings {
            self.report(
                place,
                key,
                finding.severity,
                &finding.field,
                finding.message,
            );
        }
        converted
    }

    /// Reports a problem of an object's field, at that field's line.
    fn report(
        &mut self,
        place: Place<'_>,
        key: Option<&ObjectKey>,
        severity: Severity,
        field: &str,
        message: impl Into<String>,
    ) {
        if self.file.problems.len() >= MAX_PROBLEMS {
            self.unlisted += 1;
            return;
        }
        let document = place.document;
        let located = (document.text.len() <= MAX_LOCATED_BYTES).then(|| {
            let path = [place.path, field].join(".");
            locate::line_of(self.syntax, document.text, &path)
        });
        let line = located.flatten().map(|line| line + document.lines_before);
        self.push(
            line.unwrap_or(document.first_line()),
            key,
            severity,
            field,
            message,
        );
    }

    fn push(
        &mut self,
        line: usize,
        key: Option<&ObjectKey>,
        severity: Severity,
        field: &str,
        message: impl Into<String>,
    ) {
        if self.file.problems.len() >= MAX_PROBLEMS {
            self.unlisted += 1;
            return;
        }
        let origin = format!("{}:{line}", self.origin);
        let object = key.map(ToString::to_string).unwrap_or_default();
        self.file
            .problems
            .push(problem(severity, origin, &object, field, message));
    }
}

/// Turns line numbers within a document, in the parser's words, into those of the file.
fn shift_lines(message: &str, by: usize) -> String {
    let mut parts = message.split("at line ");
    let mut shifted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let line = part[..digits].parse::<usize>().map_or(0, |line| line + by);
        // Writing into a String cannot fail.
        let _ = write!(shifted, "at line {line}{}", &part[digits..]);
    }
    shifted
}

#[cfg(test)]
mod tests;
