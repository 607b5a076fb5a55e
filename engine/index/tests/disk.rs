//! What may happen to the files: a kill at any moment, bytes that change, files that go, a full measure of age and size.

mod calls;

use calls::{SMALL, log, random_calls, row};
use index::{IndexError, Key, Opened, Order, Query, Reader, Row, Sizes, Times, Writer, discard};
use model::Timestamp;
use model::time::Span;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const START: i64 = 1_767_225_600_000;

fn seed() -> u64 {
    let seed = std::env::var("INDEX_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("INDEX_SEED={seed}");
    seed
}

/// The stream: what is at each sequence; nothing at some, as where a log was malformed.
fn stream(sequence: u64) -> Option<Row> {
    (sequence % 7 != 3).then(|| random_calls(&mut fastrand::Rng::with_seed(sequence), sequence))
}

/// Indexes the stream from the writer's position to `until`, in commits of up to 60 sequences.
fn index_until(writer: &mut Writer, until: u64, rng: &mut fastrand::Rng, committed: &mut dyn FnMut(u64)) {
    let mut at = writer.reader().position();
    while at < until {
        let to = until.min(at + rng.u64(1..60));
        for row in (at + 1..=to).filter_map(stream) {
            assert!(writer.add(row), "it was here already");
        }
        writer.commit(to).expect("the disk takes it");
        at = to;
        committed(at);
    }
}

/// Every row, page by page in the order of the stream.
fn all(reader: &Reader) -> Result<Vec<Row>, IndexError> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = reader.search(&Query::default(), Times::ALL, Order::Oldest, index::LIMIT_MAX, after)?;
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            rows.sort_by_key(|row| row.sequence);
            return Ok(rows);
        }
    }
}

fn expect_stream(reader: &Reader, until: u64) {
    let rows = all(reader).expect("nothing is damaged");
    assert!(rows.into_iter().eq((1..=until).filter_map(stream)), "not every call up to {until} is there exactly once");
}

const CHILD: &str = "INDEX_CHILD_FOLDER";

/// Not a test of its own: the process that `a_kill_at_any_moment_…` kills. It says each position that it has committed.
#[test]
fn the_one_who_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let mut rng = fastrand::Rng::with_seed(seed());
    let (mut writer, _) = Writer::open_sized(Path::new(&folder), SMALL).expect("a kill damages nothing");
    let (mut saver, mut nth) = (rng.fork(), 0);
    while nth < 100_000 {
        let until = writer.reader().position() + 500;
        index_until(&mut writer, until, &mut rng, &mut |at| eprintln!("committed {at}"));
        if saver.bool() {
            writer.save().expect("the disk takes it");
        }
        nth += 1;
    }
}

#[test]
fn a_kill_at_any_moment_leaves_neither_holes_nor_doubles() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let folder = tempfile::tempdir().expect("a folder");
    let mut position = 0;
    for kill in 0..10 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "the_one_who_is_killed", "--nocapture"])
            .env(CHILD, folder.path())
            .env("INDEX_SEED", rng.u64(..).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        // After some commits, the kill meets whatever the child does then.
        let wanted = rng.usize(20..120);
        let said = BufReader::new(child.stderr.take().expect("it is piped"));
        let commits = said.lines().map_while(Result::ok).filter(|line| line.starts_with("committed ")).take(wanted).count();
        child.kill().expect("SIGKILL");
        child.wait().expect("it ends");
        assert_eq!(commits, wanted, "the child ended by itself");
        let (mut writer, found) = Writer::open_sized(folder.path(), SMALL).expect("a kill damages nothing");
        let Opened::Resumed(resumed) = found else { panic!("nothing is there after kill {kill}") };
        assert!(resumed > position, "kill {kill}: nothing was kept");
        position = resumed;
        expect_stream(&writer.reader(), position);
        writer.reader().verify().expect("a kill damages nothing");
        if rng.bool() {
            // What the caller does: it reads from somewhere before, and what is known already is ignored.
            let again = position.saturating_sub(rng.u64(..50)) + 1;
            assert!((again..=position).filter_map(stream).all(|row| !writer.add(row)));
        }
    }
    let (mut writer, _) = Writer::open_sized(folder.path(), SMALL).expect("it opens");
    index_until(&mut writer, position + 1_000, &mut rng, &mut |_| {});
    expect_stream(&writer.reader(), position + 1_000);
}

#[test]
fn one_process_writes_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let (writer, found) = Writer::open(folder.path()).expect("it opens");
    assert_eq!(found, Opened::Fresh);
    let error = Writer::open(folder.path()).expect_err("it is taken");
    assert!(matches!(error, IndexError::Locked { .. }) && error.to_string().contains("\nhint: "), "{error}");
    drop(writer);
    Writer::open(folder.path()).expect("it is free again");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).expect("it reads").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some());
    files.sort();
    files
}

#[test]
fn what_was_summed_ahead_is_answered_without_reading_a_file() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let folder = tempfile::tempdir().expect("a folder");
    let (mut writer, _) = Writer::open_sized(folder.path(), SMALL).expect("it opens");
    index_until(&mut writer, 700, &mut rng, &mut |_| {});
    let (reader, user, stage) = (writer.reader(), [Key::parse("user_id").expect("a key")], [Key::parse("stage").expect("a key")]);
    let totals = |by: &[Key]| reader.totals(&Query::default(), Times::ALL, by, 100).expect("nothing is damaged");
    let summed = || std::iter::from_fn(|| reader.sum_ahead(&user).expect("nothing is damaged").then_some(())).count();
    let sealed = summed();
    assert!(sealed >= 4, "{sealed} files");
    assert_eq!(summed(), 0, "each file once");

    let mut asked = reader.sums(&Query::default(), Times::ALL, &user, 100).expect("nothing is damaged");
    (asked.runs, asked.users) = (None, None);
    asked.groups.iter_mut().for_each(|sum| (sum.runs, sum.users) = (None, None));
    let aside = tempfile::tempdir().expect("a folder");
    copy(folder.path(), aside.path());
    files(folder.path()).iter().for_each(|file| std::fs::remove_file(file).expect("it goes"));
    assert_eq!(totals(&user), asked, "the first question");
    reader.totals(&Query::default(), Times::ALL, &stage, 100).expect_err("what nobody summed ahead is read");
    copy(aside.path(), folder.path());

    // A file that is sealed later is one more; of files that went by age or size nothing is left to do.
    index_until(&mut writer, 850, &mut rng, &mut |_| {});
    assert!((1..=2).contains(&summed()));
    writer.retain(Timestamp::EPOCH, 0).expect("files go");
    assert_eq!(summed(), 0);
    assert_eq!(totals(&user).total.calls, reader.calls());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for file in files(from) {
        std::fs::copy(&file, to.join(file.file_name().expect("a name"))).expect("it is copied");
    }
}

/// Opens what was damaged, and looks at all of it. The first damage, or nothing where there is none.
fn first_damage(folder: &Path) -> Option<index::Damage> {
    let damage = |error: IndexError| match error {
        IndexError::Damaged(damage) => damage,
        other => panic!("{other}"),
    };
    let writer = match Writer::open_sized(folder, SMALL) {
        Ok((writer, _)) => writer,
        Err(error) => return Some(damage(error)),
    };
    let reader = writer.reader();
    // Searches may succeed or say what is damaged; what they must not do is panic, hang or invent.
    let queries = ["", "stage:extraction -user:u_1", "evt_5", "tenant:a* memory.hits>2", "has:signal status:error latency>100ms"];
    for query in queries {
        let query = Query::parse(query, Timestamp::EPOCH).expect("a good query");
        let _ = reader.search(&query, Times::ALL, Order::Costliest, 100, None).map_err(damage);
        let _ = reader.histogram(&query, Timestamp::EPOCH, Timestamp::EPOCH + Span::from_secs(1), 10).map_err(damage);
        let _ = reader.sums(&query, Times::ALL, &[index::Key::parse("user").expect("a key")], 10);
    }
    match (reader.verify(), all(&reader)) {
        (Ok(()), Ok(rows)) => {
            assert!(rows.into_iter().eq((1..=reader.position()).filter_map(stream)), "a change that nobody noticed");
            None
        }
        (Err(error), _) | (_, Err(error)) => Some(damage(error)),
    }
}

/// Discards what is damaged and indexes the stream again, and then everything is there.
fn repair(folder: &Path, until: u64) {
    while let Some(damage) = first_damage(folder) {
        assert!(
            damage.to_string().contains(&format!("\nhint: discard this file and the later ones; calls after sequence {} ", damage.rebuild_after))
        );
        discard(folder, &damage).expect("the files go");
        let (writer, _) = Writer::open_sized(folder, SMALL).unwrap_or_else(|error| panic!("still damaged: {error}"));
        assert_eq!(writer.reader().position(), damage.rebuild_after, "{damage}");
    }
    let (mut writer, _) = Writer::open_sized(folder, SMALL).expect("it opens");
    index_until(&mut writer, until, &mut fastrand::Rng::with_seed(1), &mut |_| {});
    expect_stream(&writer.reader(), until);
}

#[test]
fn damage_is_said_and_repaired_from_the_stream() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let whole = tempfile::tempdir().expect("a folder");
    const UNTIL: u64 = 700;
    let (mut writer, _) = Writer::open_sized(whole.path(), SMALL).expect("it opens");
    index_until(&mut writer, UNTIL, &mut rng, &mut |_| {});
    writer.save().expect("the disk takes it");
    drop(writer);
    assert!(files(whole.path()).len() >= 4);
    assert_eq!(first_damage(whole.path()), None);

    let mut change = |name: &str, certain: bool, change: &mut dyn FnMut(&mut fastrand::Rng, &Path)| {
        let folder = tempfile::tempdir().expect("a folder");
        copy(whole.path(), folder.path());
        let of = files(folder.path());
        let path = &of[rng.usize(..of.len())];
        change(&mut rng, path);
        assert!(!certain || first_damage(folder.path()).is_some(), "{name} goes unnoticed");
        repair(folder.path(), UNTIL);
    };
    for _ in 0..100 {
        change("a bit", true, &mut |rng, path| {
            let mut bytes = std::fs::read(path).expect("it reads");
            let at = rng.usize(..bytes.len());
            bytes[at] ^= 1 << rng.u8(..8);
            std::fs::write(path, bytes).expect("it is written");
        });
    }
    for _ in 0..30 {
        change("a cut", true, &mut |rng, path| {
            let bytes = std::fs::read(path).expect("it reads");
            std::fs::write(path, &bytes[..rng.usize(..bytes.len())]).expect("it is written");
        });
        change("garbage", true, &mut |rng, path| {
            let garbage: Vec<u8> = (0..rng.usize(..5_000)).map(|_| rng.u8(..)).collect();
            std::fs::write(path, garbage).expect("it is written");
        });
        change("a stretch of zeros", false, &mut |rng, path| {
            let mut bytes = std::fs::read(path).expect("it reads");
            let at = rng.usize(..bytes.len());
            let end = (at + 512).min(bytes.len());
            bytes[at..end].fill(0);
            std::fs::write(path, bytes).expect("it is written");
        });
    }
    for _ in 0..5 {
        // The first and the last file can go without a trace of them: then the index is what the others are, from a position that it says.
        change("a missing file", false, &mut |_, path| {
            let of = files(path.parent().expect("a folder"));
            std::fs::remove_file(&of[of.len() / 2]).expect("it goes");
        });
    }
    change("another's name", true, &mut |_, path| {
        let of = files(path.parent().expect("a folder"));
        std::fs::rename(&of[1], &of[0]).expect("it is renamed");
    });
}

#[test]
fn a_file_that_is_unfinished_is_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("unfinished"), b"half a file").expect("it is written");
    assert_eq!(Writer::open(folder.path()).expect("it opens").1, Opened::Fresh);
}

#[test]
fn a_file_that_is_gone_is_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut writer, _) = Writer::open_sized(folder.path(), SMALL).expect("it opens");
    index_until(&mut writer, 500, &mut fastrand::Rng::with_seed(1), &mut |_| {});
    let reader = writer.reader();
    std::fs::remove_file(&files(folder.path())[1]).expect("it goes");
    assert!(matches!(all(&reader), Err(IndexError::Damaged(_))));
}

#[test]
fn age_and_size_drop_whole_files_oldest_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut writer, _) = Writer::open_sized(folder.path(), SMALL).expect("it opens");
    let minute = |sequence: u64| START + sequence as i64 * 60_000;
    for sequence in 1..=1_000 {
        writer.add(row(&log(&format!("c{sequence}"), minute(sequence), ""), sequence));
        writer.commit(sequence).expect("the disk takes it");
    }
    let reader = writer.reader();
    let oldest = |sequence: u64| Timestamp::from_millis(minute(sequence)).expect("a year in range");
    let kept = writer.retain(oldest(450), u64::MAX).expect("files go");
    assert_eq!((kept.files_dropped, kept.calls_dropped), (4, 400), "files of a hundred calls, of which four are wholly older");
    assert_eq!(reader.calls(), 600);
    assert_eq!(writer.retain(oldest(450), u64::MAX).expect("nothing to do").files_dropped, 0);

    let half = reader.bytes() / 2;
    let kept = writer.retain(oldest(1), half).expect("files go");
    assert!(kept.bytes_left <= half && reader.bytes() == kept.bytes_left, "{kept:?}");
    let rows = all(&reader).expect("nothing is damaged");
    assert_eq!(rows.last().map(|row| row.sequence), Some(1_000));
    assert!(rows.windows(2).all(|two| two[0].sequence + 1 == two[1].sequence), "what is left has no hole");

    drop(writer);
    let (mut writer, found) = Writer::open_sized(folder.path(), SMALL).expect("what is left opens");
    assert_eq!(found, Opened::Resumed(1_000));
    writer.add(row(&log("last", minute(1_001), ""), 1_001));
    writer.commit(1_001).expect("the disk takes it");
    let kept = writer.retain(oldest(2_000), u64::MAX).expect("files go");
    assert_eq!((kept.bytes_left, writer.reader().calls()), (0, 0), "the growing file is dropped by age, too");
    drop(writer);
    let (writer, found) = Writer::open_sized(folder.path(), SMALL).expect("an empty index opens");
    assert_eq!((found, writer.reader().calls()), (Opened::Resumed(1_001), 0), "and its position stays");
}

#[test]
fn a_file_is_sealed_after_a_day_of_its_calls() {
    let folder = tempfile::tempdir().expect("a folder");
    let sizes = Sizes { group_rows: 10, saved_rows: 10, segment_rows: 1_000_000 };
    let (mut writer, _) = Writer::open_sized(folder.path(), sizes).expect("it opens");
    for sequence in 1..=72 {
        writer.add(row(&log(&format!("c{sequence}"), START + sequence as i64 * 3_600_000, ""), sequence));
        writer.commit(sequence).expect("the disk takes it");
    }
    assert!((2..=4).contains(&files(folder.path()).len()), "three days are {} files", files(folder.path()).len());
}

#[test]
fn calls_of_any_weight_do_not_pile_up_in_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut writer, _) = Writer::open(folder.path()).expect("it opens");
    let long = "y".repeat(1_000_000);
    for sequence in 1..=100 {
        let more = format!(r#","properties":{{"long":"{long}{sequence}"}}"#);
        assert!(writer.add(row(&log(&format!("c{sequence}"), START, &more), sequence)));
        writer.commit(sequence).expect("the disk takes it");
    }
    writer.save().expect("the disk takes it");
    let query = Query::parse("long:*y77", Timestamp::EPOCH).expect("a good query");
    let found = writer.reader().search(&query, Times::ALL, Order::Newest, 10, None).expect("nothing is damaged");
    assert_eq!(found.rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), [77]);
}
