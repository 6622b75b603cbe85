//! Writes the man pages and the shell completions, as they lie under `/usr/share`, from the command
//! line's own definition.
//!
//! ```sh
//! cargo run --example dist -- target/dist/share
//! ```
//!
//! A generator for a binary with jobs of its own differs in what `app` returns.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use clap::Command;
use clap_complete::aot::{Bash, Fish, Generator, Zsh};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use incumbent::App;

/// Commands of users.
const SECTION: &str = "1";

/// The binary whose pages these are.
fn app() -> App {
    App::new("incumbent", env!("CARGO_PKG_VERSION"))
}

fn main() -> Result<(), Box<dyn Error>> {
    let share = env::args_os().nth(1).ok_or("name the folder to write to")?;
    let share = PathBuf::from(share);
    let name = app().command_line().get_name().to_owned();
    let bash = share.join("bash-completion/completions");
    complete(Bash, &bash.join(&name))?;
    let zsh = share.join("zsh/vendor-completions");
    complete(Zsh, &zsh.join(format!("_{name}")))?;
    let fish = share.join("fish/vendor_completions.d");
    complete(Fish, &fish.join(format!("{name}.fish")))?;

    // "help" needs no page of its own.
    let mut command = app().command_line().disable_help_subcommand(true);
    command.build();
    manual(
        &command,
        None,
        &share.join("man").join(format!("man{SECTION}")),
    )
}

/// Writes a shell's completion script.
fn complete(shell: impl Generator, file: &Path) -> Result<(), Box<dyn Error>> {
    let mut command = app().command_line();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    write(file, &script)
}

/// Writes the page of a command, and those of its subcommands.
fn manual(command: &Command, above: Option<&Command>, folder: &Path) -> Result<(), Box<dyn Error>> {
    let man = Man::new(command.clone()).section(SECTION);
    let name = page_of(command);
    let version = env!("CARGO_PKG_VERSION");
    // Without a date, so that the same source gives the same page; the generator's own title would
    // put the version in the date's place then.
    let title =
        format!(".TH \"{name}\" \"{SECTION}\" \"\" \"incumbent {version}\" \"User Commands\"\n");
    let mut page = title.into_bytes();
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    exit_status().to_writer(&mut page)?;
    examples(command).to_writer(&mut page)?;
    if let Some(above) = above {
        see_also(above).to_writer(&mut page)?;
    }
    write(&folder.join(man.get_filename()), &page)?;
    for below in command.get_subcommands() {
        manual(below, Some(command), folder)?;
    }
    Ok(())
}

/// What the commands end with, as the README says in full.
fn exit_status() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in [
        ("0", "done"),
        ("1", "failed at run time"),
        ("2", "wrong usage"),
        (
            "3",
            "refused: not the leader any more, not elected in time, or a thing that must not be",
        ),
        (
            "69",
            "the store can't be reached; \"run\" never gives up, and never ends with this",
        ),
        (
            "78",
            "the configuration is wrong, or the runtime directory is another daemon's",
        ),
    ] {
        roff.control("TP", []);
        roff.text([bold(code)]);
        roff.text([roman(meaning)]);
    }
    roff.control("PP", []);
    roff.text([roman(
        "\"exec\" ends with the code of its command, or 128 and the signal's number.",
    )]);
    roff
}

/// The examples that the help ends with; lines that are typed stand as they are.
fn examples(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let help = command.get_after_help().map(ToString::to_string);
    let Some((heading, typed)) = help.as_deref().and_then(|help| help.split_once('\n')) else {
        return roff;
    };
    roff.control("SH", ["EXAMPLES"]);
    let words = heading
        .trim_start_matches("Examples")
        .trim_start_matches("Example");
    let words = words.trim_start_matches([':', ',']).trim();
    if !words.is_empty() {
        let words = words.trim_end_matches(':');
        let mut letters = words.chars();
        let first = letters.next().map(char::to_uppercase).into_iter().flatten();
        let sentence: String = first.chain(letters).chain([':']).collect();
        roff.text([roman(sentence)]);
        roff.control("PP", []);
    }
    roff.control("nf", []);
    roff.control("RS", ["4"]);
    for line in typed.lines() {
        roff.text([roman(line.trim_start())]);
    }
    roff.control("RE", []);
    roff.control("fi", []);
    roff
}

/// The page above this one; those below are listed as subcommands already.
fn see_also(above: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold(page_of(above)), roman(format!("({SECTION})"))]);
    roff
}

/// What a command's page is called.
fn page_of(command: &Command) -> &str {
    let name = command.get_display_name();
    name.unwrap_or_else(|| command.get_name())
}

fn write(file: &Path, text: &[u8]) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()).into())
}
