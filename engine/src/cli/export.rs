//! `streamgauge export`: the calls that a query finds as a dataset, in a file with a manifest beside it that says where it came from.
//!
//! The running engine finds and reads them (`/api/v1/export`), so that what `[redact]` takes out is out before anything leaves it, and that the audit log
//! has it. Lines come and go one by one; nothing here grows with how many there are. A file has its name only when it is whole.

mod chat;
mod manifest;

use super::pricing::tell;
use super::search::checked;
use super::{Outcome, asking};
use crate::config::Config;
use crate::error::Fault;
use indicatif::{ProgressBar, ProgressStyle};
use manifest::{Summed, manifest};
use model::show;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// A query such as 'stage:extraction signal:invalid_json'; without one, every call.
    #[arg(default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    query: String,
    /// jsonl: the call, its payload as it was logged, and verdicts. openai: lines for fine-tuning, {"messages": […]}, of calls that log input and output.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Only calls since then: a time, or a length of time before now such as 24h.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only calls before then.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// So many calls, each with the same chance, rather than all of them.
    #[arg(long, value_name = "N")]
    sample: Option<u64>,
    /// The same seed draws the same calls.
    #[arg(long, default_value_t = 0, requires = "sample")]
    seed: u64,
    /// So many calls of each value of this key, such as stage or properties.tenant.
    #[arg(long, value_name = "KEY", requires = "sample")]
    per: Option<String>,
    /// A file that is not there yet, or a folder; without it, standard output, and no manifest.
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// What judges said of each call; for jsonl.
    #[arg(long)]
    verdicts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Jsonl,
    Openai,
}

/// How often the state is said where no bar can be drawn.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// A line of `/api/v1/export`, as far as it is looked at here.
#[derive(Debug, Deserialize)]
struct Line {
    export: Option<Value>,
    call: Option<Value>,
    /// As it came: it may lie as deep as a reader follows, and here it lies one level deeper.
    payload: Option<Box<RawValue>>,
    payload_is: Option<String>,
    end: Option<Value>,
    problem: Option<Problem>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    detail: String,
    hint: String,
}

pub(super) async fn export(args: Export, config: &Config) -> Result<Outcome, Fault> {
    checked(&args.query)?;
    if args.verdicts && args.format == Format::Openai {
        return Err(Fault::new("lines for fine-tuning have no verdicts", "choose by them in the query: verdict:NAME=pass"));
    }
    let target = args.out.as_deref().map(target).transpose()?;
    let mut out = Out::open(target.as_deref())?;
    let mut lines = asking::lines(config, &path(&args)).await?;
    let mut head = None;
    let mut progress = Progress::hidden();
    let mut summed = Summed::default();
    let strange = || Fault::new("the engine exports in a way that this version does not know", "use the engine's own version");
    let end = loop {
        let Some(bytes) = lines.next().await? else {
            return Err(Fault::new("the engine ended the export in the middle", "see its log; what was written so far is not kept"));
        };
        let line: Line = serde_json::from_slice(&bytes).map_err(|_| strange())?;
        match line {
            Line { problem: Some(Problem { detail, hint }), .. } => return Err(Fault::new(detail, hint)),
            Line { export: Some(export), .. } => {
                progress = Progress::of(export["calls"].as_u64().unwrap_or(0));
                export["notes"].as_array().into_iter().flatten().filter_map(Value::as_str).for_each(|note| tell(&format!("note: {note}")));
                head = Some(export);
            }
            Line { end: Some(end), .. } => break end,
            Line { call: Some(call), payload, payload_is, .. } => {
                let is = payload_is.as_deref().unwrap_or_default();
                let written = match args.format {
                    Format::Jsonl => out.line(&bytes).map(|()| true)?,
                    Format::Openai => match chat::converted(payload.as_deref().map_or("", RawValue::get), is) {
                        Ok(chat) => out.line(chat.to_string().as_bytes()).map(|()| true)?,
                        Err(why) => {
                            summed.not_converted(why);
                            false
                        }
                    },
                };
                if written {
                    summed.wrote(&call, is);
                }
                progress.step();
            }
            _ => return Err(strange()),
        }
        if out.gone {
            return Ok(Outcome::Well);
        }
    };
    progress.end();
    let head = head.ok_or_else(strange)?;
    let format = if args.format == Format::Jsonl { "jsonl" } else { "openai" };
    let written = out.finish(|file| manifest(file, format, &head, &end, &summed))?;
    let number = |number: u64| show::number(number as f64);
    let to = written.map_or_else(String::new, |(file, manifest)| format!(" to {}, with {}", file.display(), manifest.display()));
    tell(&format!("exported {} of {} calls that match{to}", number(summed.lines), number(head["matched"].as_u64().unwrap_or(0))));
    if summed.without_payload > 0 {
        tell(&format!("{} of them without a payload: it has expired or cannot be read", number(summed.without_payload)));
    }
    for (why, calls) in &summed.not_converted {
        tell(&format!("not converted: {} calls: {why}", number(*calls)));
    }
    Ok(Outcome::Well)
}

fn path(args: &Export) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("where", &args.query);
    for (name, value) in [("since", &args.since), ("until", &args.until), ("per", &args.per)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    if let Some(sample) = args.sample {
        query.append_pair("sample", &sample.to_string()).append_pair("seed", &args.seed.to_string());
    }
    if args.verdicts {
        query.append_pair("verdicts", "true");
    }
    format!("/api/v1/export?{}", query.finish())
}

/// The file that `--out` means; in a folder, one named by the moment.
fn target(out: &Path) -> Result<PathBuf, Fault> {
    let is_folder = out.is_dir() || out.as_os_str().as_encoded_bytes().ends_with(b"/");
    let file = if is_folder {
        let moment: String = crate::outbox::now().to_string().chars().filter(|char| char.is_ascii_alphanumeric()).take(15).collect();
        std::fs::create_dir_all(out).map_err(|error| Fault::new(format!("cannot make the folder {}: {error}", out.display()), "name another"))?;
        out.join(format!("calls-{moment}Z.jsonl"))
    } else {
        out.to_owned()
    };
    if file.exists() {
        return Err(Fault::new(format!("{} is there already", file.display()), "name another file, or remove it"));
    }
    Ok(file)
}

/// Where lines go: a file that gets its name in the end, or standard output.
struct Out {
    target: Option<PathBuf>,
    writer: BufWriter<Box<dyn Write + Send>>,
    digest: Sha256,
    bytes: u64,
    /// Nobody reads standard output any more.
    gone: bool,
}

/// A file that is whole.
struct Written<'f> {
    name: &'f Path,
    bytes: u64,
    sha256: String,
}

impl Out {
    fn open(target: Option<&Path>) -> Result<Self, Fault> {
        let writer: Box<dyn Write + Send> = match target {
            None => Box::new(std::io::stdout()),
            Some(target) => Box::new(File::create(part(target)).map_err(|error| cannot_write(target, &error))?),
        };
        Ok(Self { target: target.map(Path::to_owned), writer: BufWriter::new(writer), digest: Sha256::new(), bytes: 0, gone: false })
    }

    /// `line` without its end.
    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.digest.update(line);
        self.digest.update(b"\n");
        self.bytes += line.len() as u64 + 1;
        let written = self.writer.write_all(line).and_then(|()| self.writer.write_all(b"\n"));
        match (written, &self.target) {
            (Ok(()), _) => Ok(()),
            (Err(error), Some(target)) => Err(cannot_write(target, &error)),
            // A reader that went away (`| head`) is no error.
            (Err(_), None) => {
                self.gone = true;
                Ok(())
            }
        }
    }

    /// Gives the file its name, and puts its manifest beside it: both paths.
    fn finish(mut self, manifest: impl FnOnce(&Written<'_>) -> Value) -> Result<Option<(PathBuf, PathBuf)>, Fault> {
        let flushed = self.writer.flush();
        let Some(target) = self.target.clone() else { return Ok(None) };
        flushed.map_err(|error| cannot_write(&target, &error))?;
        let sha256 = self.digest.finalize_reset().iter().map(|byte| format!("{byte:02x}")).collect();
        let manifest = manifest(&Written { name: &target, bytes: self.bytes, sha256 });
        let mut beside = target.clone().into_os_string();
        beside.push(".manifest.json");
        let beside = PathBuf::from(beside);
        std::fs::write(&beside, format!("{manifest:#}\n")).map_err(|error| cannot_write(&beside, &error))?;
        std::fs::rename(part(&target), &target).map_err(|error| cannot_write(&target, &error))?;
        self.target = None;
        Ok(Some((target, beside)))
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if let Some(target) = &self.target {
            // It is not whole. That it may stay behind is said by its name.
            let _ = std::fs::remove_file(part(target));
        }
    }
}

/// The name of a file that is being written.
fn part(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(format!("cannot write {}: {error}", path.display()), "is the folder there, and is there room?")
}

/// A bar where somebody looks, and a line now and then where somebody reads a log later.
struct Progress {
    bar: ProgressBar,
    plain: bool,
    began: Instant,
    said: Instant,
    done: u64,
    of: u64,
}

impl Progress {
    fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), plain: false, began: Instant::now(), said: Instant::now(), done: 0, of: 0 }
    }

    fn of(calls: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { plain: true, of: calls, ..Self::hidden() };
        }
        let template = "{bar:30} {human_pos}/{human_len} calls  {per_sec}  {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: ProgressBar::new(calls).with_style(style), of: calls, ..Self::hidden() }
    }

    fn step(&mut self) {
        self.bar.inc(1);
        self.done += 1;
        if self.plain && self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            tell(&state(self.done, self.of, self.began.elapsed()));
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn state(done: u64, of: u64, took: Duration) -> String {
    let rate = done as f64 / took.as_secs_f64().max(0.001);
    let left = model::Span::from_secs((of.saturating_sub(done) as f64 / rate.max(0.001)).round() as u64);
    let number = |number: u64| show::number(number as f64);
    format!("{} of {} calls, {} a second, {left} left", number(done), number(of), show::number(rate.round()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = target(&folder.path().join("calls.jsonl")).expect("it is not there");
        let mut out = Out::open(Some(&file)).expect("it opens");
        out.line(b"{}").expect("it is written");
        drop(out);
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "what was begun is gone");
        let mut out = Out::open(Some(&file)).expect("it opens");
        out.line(b"{}").expect("it is written");
        let (file, manifest) = out.finish(|written| Value::from(written.sha256.clone())).expect("it ends").expect("a file");
        assert_eq!(std::fs::read_to_string(&file).expect("the file"), "{}\n");
        let sum = std::fs::read_to_string(manifest).expect("the manifest");
        assert_eq!(sum.trim(), "\"ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356\"");
        assert!(target(&file).is_err_and(|fault| fault.what().contains("is there already")));
        let named = target(folder.path()).expect("a file in the folder");
        assert!(named.file_name().is_some_and(|name| name.len() == "calls-20261122T140320Z.jsonl".len()), "{}", named.display());
    }

    #[test]
    fn a_line_is_read_however_deep_its_payload_is() {
        let payload = format!("{}{}", "[".repeat(127), "]".repeat(127));
        let line = format!(r#"{{"call":{{"model":"m"}},"weight":1.0,"payload":{payload},"payload_is":"here"}}"#);
        let line: Line = serde_json::from_str(&line).expect("a line");
        assert_eq!(line.payload.as_deref().map(RawValue::get), Some(payload.as_str()));
    }

    #[test]
    fn the_state_says_how_fast_and_how_long() {
        assert_eq!(state(1_000, 61_000, Duration::from_secs(2)), "1,000 of 61,000 calls, 500 a second, 2m left");
    }
}
