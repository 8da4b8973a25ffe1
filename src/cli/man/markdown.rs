//! Markdown of the documentation as the source of a manual page.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// Longest line of text that is no code, where a word allows it.
const LINE_BYTES_MAX: usize = 79;

/// Longest code in text that is kept on one line.
const CODE_BYTES_MAX: usize = 40;

/// Escapes text, which may then stand anywhere in a line that is no request.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => escaped.push_str("\\(rs"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            '`' => escaped.push_str("\\(ga"),
            char => escaped.push(char),
        }
    }
    escaped
}

/// Translates a page without its title. Links keep their text only, and a row of a table is a
/// paragraph under its first cell.
pub fn to_roff(markdown: &str) -> String {
    let mut page = Page::default();
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        page.event(event);
    }
    page.out
}

/// Code that may be broken behind a comma or a slash, if it is long.
fn breakable(code: &str) -> String {
    let escaped = escape(code);
    match code.len() > CODE_BYTES_MAX {
        true => escaped.replace(',', ",\\:").replace('/', "/\\:"),
        false => escaped,
    }
}

/// Leaves out the requests for space that have no effect, and which `mandoc` warns of. Characters
/// outside ASCII become escapes, since `groff` takes a page without `-K` as Latin-1.
pub fn tidy(page: &str) -> String {
    // An empty line after a break is how `clap_mangen` writes space.
    let page = page.replace(".br\n\n", ".br\n.sp\n");
    let lines: Vec<&str> = page.lines().map(str::trim_end).collect();
    let mut tidied = String::with_capacity(page.len());
    let mut before = None;
    for (at, line) in lines.iter().enumerate() {
        let after = lines.get(at + 1).and_then(|line| request(line));
        let is_idle = match *line {
            ".PP" => {
                matches!(before, Some(".SH" | ".SS"))
                    || matches!(after, Some(".PP" | ".SH" | ".SS" | ".IP" | ".TP") | None)
            }
            ".br" => before == Some(".sp") || after == Some(".sp"),
            _ => false,
        };
        if !is_idle {
            push_ascii(&mut tidied, line);
            tidied.push('\n');
            before = request(line);
        }
    }
    tidied
}

fn push_ascii(page: &mut String, line: &str) {
    for char in line.chars() {
        match char.is_ascii() {
            true => page.push(char),
            false => page.push_str(&format!("\\[u{:04X}]", u32::from(char))),
        }
    }
}

/// First word of a line.
fn request(line: &str) -> Option<&str> {
    line.split(' ').next()
}

#[derive(Default)]
struct Page {
    out: String,
    /// Text of the paragraph, heading, item or cell that is being read.
    text: String,
    is_code: bool,
    /// Numbers of the lists around, for those that have some.
    lists: Vec<Option<u64>>,
    header: Vec<String>,
    cells: Vec<String>,
}

impl Page {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.text.push_str(&escape(&text)),
            Event::Code(code) => self.text += &format!("\\fB{}\\fR", breakable(&code)),
            Event::SoftBreak => self.text.push('\n'),
            Event::HardBreak => self.text.push_str("\n.br\n"),
            // The documentation has no others.
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::CodeBlock(_) => {
                self.flush();
                self.is_code = true;
            }
            Tag::List(number) => {
                self.flush();
                if !self.lists.is_empty() {
                    self.out.push_str(".RS 4\n");
                }
                self.lists.push(number);
            }
            Tag::Item => match self.lists.last_mut() {
                Some(Some(number)) => {
                    self.out += &format!(".IP {number}. 4\n");
                    *number += 1;
                }
                _ => self.out.push_str(".IP \\(bu 2\n"),
            },
            Tag::Strong => self.text.push_str("\\fB"),
            Tag::Emphasis => self.text.push_str("\\fI"),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(HeadingLevel::H1) => self.text.clear(),
            TagEnd::Heading(level) => {
                let request = if level == HeadingLevel::H2 {
                    "SH"
                } else {
                    "SS"
                };
                let title = std::mem::take(&mut self.text).replace('"', "\\(dq");
                self.out += &format!(".{request} \"{title}\"\n");
            }
            TagEnd::Paragraph => {
                if self.lists.is_empty() {
                    self.out.push_str(".PP\n");
                }
                self.flush();
            }
            TagEnd::CodeBlock => {
                self.is_code = false;
                self.out.push_str(".PP\n.RS 4\n.nf\n");
                self.flush();
                self.out.push_str(".fi\n.RE\n");
            }
            TagEnd::Item => self.flush(),
            TagEnd::List(_) => {
                self.lists.pop();
                self.out.push_str(match self.lists.is_empty() {
                    true => ".PP\n",
                    false => ".RE\n",
                });
            }
            TagEnd::Strong | TagEnd::Emphasis => self.text.push_str("\\fR"),
            TagEnd::TableCell => self.cells.push(std::mem::take(&mut self.text)),
            TagEnd::TableHead => self.header = std::mem::take(&mut self.cells),
            TagEnd::TableRow => self.row(),
            TagEnd::Table => self.out.push_str(".PP\n"),
            _ => {}
        }
    }

    fn row(&mut self) {
        let cells = std::mem::take(&mut self.cells);
        let mut cells = cells.into_iter().zip(self.header.clone());
        let Some((first, _)) = cells.next() else {
            return;
        };
        self.out.push_str(".TP\n");
        self.text = first;
        self.flush();
        let rest = cells.filter(|(cell, _)| !cell.is_empty());
        let lines: Vec<String> = rest
            .map(|(cell, name)| match name.is_empty() {
                true => cell,
                false => format!("{name}: {cell}"),
            })
            .collect();
        self.text = lines.join("\n.br\n");
        if self.text.is_empty() {
            self.text.push_str("\\&");
        }
        self.flush();
    }

    /// Writes the text: code line by line, everything else wrapped.
    fn flush(&mut self) {
        let text = std::mem::take(&mut self.text);
        for line in text.lines() {
            if self.is_code || line == ".br" {
                self.line(line, line == ".br");
                continue;
            }
            let mut short = String::new();
            for word in line.split_whitespace() {
                if !short.is_empty() && short.len() + word.len() >= LINE_BYTES_MAX {
                    self.line(&short, false);
                    short.clear();
                }
                if !short.is_empty() {
                    short.push(' ');
                }
                short += word;
            }
            if !short.is_empty() {
                self.line(&short, false);
            }
        }
    }

    /// Writes a line. Text that begins like a request is protected.
    fn line(&mut self, line: &str, is_request: bool) {
        if line.starts_with('.') && !is_request {
            self.out.push_str("\\&");
        }
        self.out += line;
        self.out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_its_request() {
        let cases = [
            ("# Title\n\n## A `b`\n", ".SH \"A \\fBb\\fR\"\n"),
            ("one\n.two **x**\n", ".PP\none\n\\&.two \\fBx\\fR\n"),
            (
                "- a-b\n- [c](d.md)\n",
                ".IP \\(bu 2\na\\-b\n.IP \\(bu 2\nc\n.PP\n",
            ),
            ("1. a\n2. b\n", ".IP 1. 4\na\n.IP 2. 4\nb\n.PP\n"),
            (
                "    x\n    .y \\\n",
                ".PP\n.RS 4\n.nf\nx\n\\&.y \\(rs\n.fi\n.RE\n",
            ),
            (
                "| k | | v |\n|---|---|---|\n| `a` | x | y |\n",
                ".TP\n\\fBa\\fR\nx\n.br\nv: y\n.PP\n",
            ),
        ];
        for (markdown, roff) in cases {
            assert_eq!(to_roff(markdown), roff, "{markdown}");
        }
    }

    #[test]
    fn space_without_effect_is_left_out() {
        let page = ".SH A\n.PP\nx\n.PP\n.PP\ny\n.sp\n.br\nz\n.PP\n";
        assert_eq!(tidy(page), ".SH A\nx\n.PP\ny\n.sp\nz\n");
    }
}
