//! `anthill man DIR`: the manual pages. Those of section 1 are made of the definitions behind
//! `--help`, the others of the documentation, whose table of keys comes from the reader of the
//! configuration.

mod markdown;

use std::fs;
use std::io;
use std::path::Path;

use clap_mangen::Man;

use super::Failure;
use super::args::{self, ManArgs};

/// Date in the footer of the pages.
const DATE: &str = "2026-11-30";
const MANUAL: &str = "Anthill manual";

/// A page made of the documentation.
struct Document {
    name: &'static str,
    section: &'static str,
    about: &'static str,
    text: &'static str,
}

const DOCUMENTS: [Document; 2] = [
    Document {
        name: "anthill.json",
        section: "5",
        about: "configuration of the Anthill server",
        text: include_str!("../../docs/configuration.md"),
    },
    Document {
        name: "anthill-protocol",
        section: "7",
        about: "messages between hosts and the Anthill server, and its keys in Redis",
        text: include_str!("../../PROTOCOL.md"),
    },
];

/// Writes all pages into a directory.
///
/// # Errors
/// When a file cannot be written.
pub fn run(args: &ManArgs) -> Result<(), Failure> {
    write_all(&args.dir)
        .map_err(|error| Failure::failed(format!("{}: {error}", args.dir.display())))
}

fn write_all(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut program = args::command().disable_help_subcommand(true);
    program.build();
    let visible: Vec<_> = program
        .get_subcommands()
        .filter(|it| !it.is_hide_set())
        .collect();
    let names: Vec<_> = visible.iter().map(|it| it.get_name()).collect();
    write_command(dir, program.clone(), &see_also(&names))?;
    for command in visible {
        write_command(dir, command.clone(), &see_also(&[]))?;
    }
    for document in DOCUMENTS {
        fs::write(dir.join(document.file()), document.page())?;
    }
    Ok(())
}

fn write_command(dir: &Path, command: clap::Command, see_also: &str) -> io::Result<()> {
    // `anthill`, `anthill-serve`: as `man` looks for them.
    let name = match command.get_name() {
        "anthill" => "anthill".to_owned(),
        command => format!("anthill-{command}"),
    };
    let source = format!("anthill {}", env!("CARGO_PKG_VERSION"));
    let mut command = command.display_name(name.clone()).version(None::<&str>);
    // As in `--help`: the generated synopsis has options without their values.
    let usage = command.render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    let page = Man::new(command.override_usage(usage)).title(name.to_uppercase());
    let page = page.date(DATE).source(source).manual(MANUAL);
    let mut text = Vec::new();
    page.render(&mut text)?;
    let text = String::from_utf8_lossy(&text) + see_also;
    fs::write(dir.join(format!("{name}.1")), markdown::tidy(&text))
}

/// The last section of a page: these subcommands, and the pages of the other sections.
fn see_also(subcommands: &[&str]) -> String {
    let mut names: Vec<String> = Vec::new();
    if subcommands.is_empty() {
        names.push("anthill(1)".to_owned());
    }
    names.extend(subcommands.iter().map(|name| format!("anthill-{name}(1)")));
    names.extend(DOCUMENTS.map(|document| format!("{}({})", document.name, document.section)));
    format!(
        ".SH \"SEE ALSO\"\n{}\n",
        markdown::escape(&names.join(", "))
    )
}

impl Document {
    fn file(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }

    fn page(&self) -> String {
        let Self {
            name,
            section,
            about,
            text,
        } = self;
        let (title, version) = (name.to_uppercase(), env!("CARGO_PKG_VERSION"));
        let name = markdown::escape(name);
        let body = markdown::to_roff(text);
        let page = format!(
            ".TH {title} {section} {DATE} \"anthill {version}\" \"{MANUAL}\"\n.nh\n.ad l\n\
             .SH NAME\n{name} \\- {about}\n.SH DESCRIPTION\n{body}{}",
            see_also(&[])
        );
        markdown::tidy(&page)
    }
}
