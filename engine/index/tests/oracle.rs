//! The index against the definition: random calls, random questions, and the answer of `Query::matches` over all of them.

mod calls;

use calls::{SMALL, log, random_calls, row};
use index::{Key, Order, Query, Reader, Row, Sizes, Times, Total, Writer};
use model::Timestamp;
use model::time::Span;
use std::collections::{BTreeMap, BTreeSet};

const NOW: i64 = 1_767_225_600_000;

fn now() -> Timestamp {
    Timestamp::from_millis(NOW).expect("a year in range")
}

fn parse(text: &str) -> Query {
    Query::parse(text, now()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn seed() -> u64 {
    let seed = std::env::var("INDEX_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("INDEX_SEED={seed}");
    seed
}

/// A term that some calls match and some do not, of every kind that there is.
fn term(rng: &mut fastrand::Rng) -> String {
    let pick = |rng: &mut fastrand::Rng, of: &[&str]| of[rng.usize(..of.len())].to_owned();
    let stages = ["extraction", "retrieval", "ext*", "*tion", "*t*r*", "\"synthesis\"|extraction", "nowhere"];
    let models = ["gpt-4o", "gpt-4o*", "\"gpt-4o\"*", "claude|gpt-4o-mini", "日本語*", "*語*"];
    let written = match rng.u8(..19) {
        0 => format!("stage:{}", pick(rng, &stages)),
        1 => format!("model:{}", pick(rng, &models)),
        2 => format!("latency{}{}", pick(rng, &[">", ">=", "<", "<=", ":"]), pick(rng, &["100ms", "1s", "250", "0", "1.5s"])),
        3 => format!("cost:{}", pick(rng, &["$0.000001..", "..0.000002usd", "0.0000005..0.0000015", "0"])),
        4 => format!("tokens{}{}", pick(rng, &[">", "<="]), pick(rng, &["500", "1k", "0"])),
        5 => format!("status:{}", pick(rng, &["error", "ok", "429", "5xx", "400..499", "ok|429", "..300"])),
        6 => format!("signal:{}", pick(rng, &["error", "rate_limited|truncated", "no_facts", "never_heard_of", "empty"])),
        7 => format!("has:{}", pick(rng, &["user", "tenant", "signal", "cost|ttft", "tokens", "time", "properties.stage", "nobody.has.this"])),
        8 => format!("user:u_{}", rng.u8(..12)),
        9 => format!("user:{}", pick(rng, &["u_*", "*1", "\"\\\"quoted\\\" \\\\ user\"", "u_1|u_2|u_3"])),
        10 => format!("tenant:{}", pick(rng, &["acme", "a*", "ünïcode", "\"two words\"", "1"])),
        11 => format!("memory.hits{}{}", pick(rng, &[">", ">=", "<", "<=", ":"]), rng.u8(..14)),
        12 => format!("memory.hits:{}", pick(rng, &["2..5", "..3", "10..", "1*", "5|10..12", "1*|3..4", "\"2..5\""])),
        13 => format!("run:evt_{}", rng.u16(..300)),
        14 => format!("{}_{}", pick(rng, &["evt", "call", "u"]), rng.u16(..400)),
        15 => format!("verdict:{}", pick(rng, &["relevance=fail", "relevance=pass|tone=error", "unheard=fail"])),
        16 => format!("time{}2026-01-01T00:00:{:02}Z", pick(rng, &[">", ">=", "<", "<=", ":"]), rng.u8(..60)),
        17 => format!("env:{}", pick(rng, &["production", "test", "prod*"])),
        _ => format!("deep.er.yet:{}", pick(rng, &["1", "true", "*"])).replace(":*", ":t*"),
    };
    if rng.u8(..4) == 0 { format!("-{written}") } else { written }
}

/// What the resolver of verdicts says: anything that depends on the call alone.
fn with_verdicts(query: Query, last: u64) -> Query {
    query.with_verdicts(|name, is| {
        let nth = 3 + name.len() as u64 % 5 + is as u64;
        if name == "unheard" { Vec::new() } else { (1..=last).rev().filter(|sequence| sequence % nth == 0).collect() }
    })
}

fn rank(order: Order, row: &Row) -> (i128, u64) {
    let number = |number| row.number(number).map_or(1, |value: u64| -i128::from(value));
    match order {
        Order::Newest => (-i128::from(row.time.millis()), u64::MAX - row.sequence),
        Order::Oldest => (row.time.millis().into(), row.sequence),
        Order::Slowest => (number(index::Number::LatencyMs), u64::MAX - row.sequence),
        Order::Costliest => (number(index::Number::CostUsd), u64::MAX - row.sequence),
    }
}

fn expect_same(reader: &Reader, rows: &[Row], rng: &mut fastrand::Rng) {
    let last = rows.last().map_or(0, |row| row.sequence);
    let terms: Vec<String> = (0..rng.usize(..4)).map(|_| term(rng)).collect();
    let text = terms.join(" ");
    let query = with_verdicts(parse(&text), last);
    let some_time = |rng: &mut fastrand::Rng| rng.bool().then(|| now() + Span::from_millis(rng.u64(..60_000)));
    let times = Times { from: some_time(rng), until: some_time(rng) };
    let order = [Order::Newest, Order::Oldest, Order::Slowest, Order::Costliest][rng.usize(..4)];
    let mut expected: Vec<&Row> = rows.iter().filter(|row| times.contains(row.time) && query.matches(row)).collect();
    expected.sort_by_key(|row| rank(order, row));

    let limit = 1 + rng.usize(..60);
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = reader.search(&query, times, order, limit, after).expect("nothing is damaged");
        assert_eq!(page.total, Total::Exactly((expected.len() - found.len()) as u64), "{text:?} {times:?} {order:?}");
        found.extend(page.rows);
        assert!(found.len() <= expected.len(), "{text:?} {times:?} {order:?}: more than there is");
        after = page.next.map(|cursor| cursor.to_string().parse().expect("a cursor is read back"));
        if after.is_none() {
            break;
        }
    }
    assert!(found.iter().eq(expected.iter().copied()), "{text:?} {times:?} {order:?}: {} found, {} expected", found.len(), expected.len());

    let keys = ["user", "tenant", "model", "status", "stage", "env", "deep.er.yet"];
    let by: Vec<Key> = (0..1 + rng.usize(..2)).map(|_| Key::parse(keys[rng.usize(..keys.len())]).expect("a key")).collect();
    expect_sums(reader, &query, times, &by, &expected, limit);

    let until = now() + Span::from_millis(1 + rng.u64(..60_000));
    let bars = reader.histogram(&query, now(), until, 1 + rng.usize(..50)).expect("nothing is damaged");
    for (bar, next) in bars.iter().zip(bars.iter().skip(1).map(|bar| bar.from).chain([until])) {
        let inside: Vec<_> = rows.iter().filter(|row| (bar.from..next).contains(&row.time) && query.matches(row)).collect();
        assert_eq!(bar.calls, inside.len() as u64, "{text:?}");
        assert_eq!(bar.errors, inside.iter().filter(|row| row.holds(model::Signal::Error)).count() as u64, "{text:?}");
    }
}

fn expect_sums(reader: &Reader, query: &Query, times: Times, by: &[Key], expected: &[&Row], limit: usize) {
    type Brute<'r> = ((u64, u64, u128, u128, u128), BTreeSet<(&'r str, &'r str)>, BTreeSet<&'r str>);
    let label = |key: &Key, row: &Row| match key {
        Key::Text(text) => row.text(*text).to_owned(),
        Key::Property(name) => row.property(name).unwrap_or("").to_owned(),
        Key::Number(number) => row.number(*number).map_or(String::new(), |number| number.to_string()),
        other => panic!("{other} is no key of this test"),
    };
    let number = |row: &Row, number| u128::from(row.number(number).unwrap_or(0));
    let mut brute: BTreeMap<Vec<String>, Brute<'_>> = BTreeMap::new();
    for row in expected {
        let (sums, runs, users) = brute.entry(by.iter().map(|key| label(key, row)).collect()).or_default();
        sums.0 += 1;
        sums.1 += u64::from(row.holds(model::Signal::Error));
        sums.2 += number(row, index::Number::CostUsd);
        sums.3 += number(row, index::Number::InputTokens);
        sums.4 += number(row, index::Number::OutputTokens);
        let (run, user) = (row.text(index::Text::EventId), row.text(index::Text::User));
        runs.extend((!run.is_empty()).then_some((row.text(index::Text::Environment), run)));
        users.extend((!user.is_empty()).then_some(user));
    }
    let table = reader.sums(query, times, by, limit).expect("nothing is damaged");
    let shown = |t: index::Totals| (t.calls, t.errors, t.cost_nanos, t.input_tokens, t.output_tokens);
    for sum in &table.groups {
        let (sums, runs, users) = brute.get(&sum.labels).unwrap_or_else(|| panic!("nobody is {:?}", sum.labels));
        assert_eq!((shown(sum.totals), sum.runs, sum.users), (*sums, Some(runs.len() as u64), Some(users.len() as u64)), "{:?}", sum.labels);
    }
    assert!(table.groups.windows(2).all(|two| two[0].totals.cost_nanos >= two[1].totals.cost_nanos), "the largest come first");
    assert_eq!(table.groups.len(), brute.len().min(limit));
    let add = |a: (u64, u64, u128, u128, u128), b: (u64, u64, u128, u128, u128)| (a.0 + b.0, a.1 + b.1, a.2 + b.2, a.3 + b.3, a.4 + b.4);
    let all = brute.values().fold(Default::default(), |all, (sums, ..)| add(all, *sums));
    assert_eq!(shown(table.total), all);
    assert_eq!(table.groups.iter().fold(shown(table.other), |all, sum| add(all, shown(sum.totals))), all, "the table adds up");
    let runs: BTreeSet<_> = brute.values().flat_map(|(_, runs, _)| runs).collect();
    assert_eq!(table.runs, Some(runs.len() as u64));
    // The same without runs and users, computed and then partly remembered.
    let mut bare = table;
    (bare.runs, bare.users) = (None, None);
    bare.groups.iter_mut().for_each(|sum| (sum.runs, sum.users) = (None, None));
    for _ in 0..2 {
        assert_eq!(reader.totals(query, times, by, limit).expect("nothing is damaged"), bare);
    }
}

#[test]
fn the_index_answers_as_a_filter_over_all_calls_does() {
    let mut rng = fastrand::Rng::with_seed(seed());
    for _ in 0..12 {
        let folder = tempfile::tempdir().expect("a folder");
        let sizes = [SMALL, Sizes { group_rows: 64, saved_rows: 200, segment_rows: 700 }, Sizes::default()][rng.usize(..3)];
        let (mut writer, _) = Writer::open_sized(folder.path(), sizes).expect("it opens");
        let mut rows = Vec::new();
        let mut sequence = 0;
        for _ in 0..rng.usize(1..8) {
            for _ in 0..rng.usize(..400) {
                sequence += 1 + rng.u64(..10).saturating_sub(7);
                let row = random_calls(&mut rng, sequence);
                assert!(writer.add(row.clone()));
                rows.push(row);
            }
            writer.commit(sequence).expect("the disk takes it");
            for _ in 0..15 {
                expect_same(&writer.reader(), &rows, &mut rng);
            }
            if rng.u8(..3) == 0 {
                writer.save().expect("the disk takes it");
                drop(writer);
                writer = Writer::open_sized(folder.path(), sizes).expect("it opens again").0;
                assert_eq!(writer.reader().position(), sequence);
            }
        }
        assert_eq!(writer.reader().calls(), rows.len() as u64);
        writer.reader().verify().expect("nothing is damaged");
    }
}

#[test]
fn a_run_is_all_calls_of_its_event_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut writer, _) = Writer::open_sized(folder.path(), SMALL).expect("it opens");
    let mut rng = fastrand::Rng::with_seed(seed());
    let rows: Vec<Row> = (1..2_000).map(|sequence| random_calls(&mut rng, sequence)).collect();
    rows.iter().for_each(|row| assert!(writer.add(row.clone())));
    writer.commit(2_000).expect("the disk takes it");
    for event in (0..300).map(|event| format!("evt_{event}")) {
        for environment in [None, Some("production"), Some("test")] {
            let of = |row: &&Row| row.text(index::Text::EventId) == event && environment.is_none_or(|e| row.text(index::Text::Environment) == e);
            let mut expected: Vec<&Row> = rows.iter().filter(of).collect();
            expected.sort_by_key(|row| (row.time, row.sequence));
            let run = writer.reader().run(environment, &event).expect("nothing is damaged");
            assert!(!run.cut && run.rows.iter().eq(expected), "{event} {environment:?}");
        }
    }
}

#[test]
fn a_run_without_end_is_cut_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut writer, _) = Writer::open(folder.path()).expect("it opens");
    let calls = index::RUN_MAX as u64 + 1;
    for sequence in 1..=calls {
        writer.add(row(&log(&format!("c{sequence}"), NOW + sequence as i64, r#","event_id":"loop""#), sequence));
    }
    writer.commit(calls).expect("the disk takes it");
    let run = writer.reader().run(None, "loop").expect("nothing is damaged");
    assert!(run.cut && run.rows.len() == index::RUN_MAX && run.rows[0].sequence == 1);
}

#[test]
fn a_frequent_match_is_counted_to_ten_thousand_and_a_rare_one_exactly() {
    let folder = tempfile::tempdir().expect("a folder");
    let sizes = Sizes { group_rows: 500, saved_rows: 100_000, segment_rows: 5_000 };
    let (mut writer, _) = Writer::open_sized(folder.path(), sizes).expect("it opens");
    for sequence in 1..=30_000 {
        let more = if sequence % 9_000 == 0 { r#","user_id":"rare""# } else { "" };
        writer.add(row(&log(&format!("c{sequence}"), NOW + sequence as i64, more), sequence));
    }
    writer.commit(30_000).expect("the disk takes it");
    let ask = |text: &str| writer.reader().search(&parse(text), Times::ALL, Order::Newest, 100, None).expect("nothing is damaged");
    let frequent = ask("model:gpt-4o");
    assert!(matches!(frequent.total, Total::AtLeast(10_000..20_000)), "{:?}", frequent.total);
    assert!(frequent.rows.iter().map(|row| row.sequence).eq((29_901..=30_000).rev()));
    assert_eq!((ask("user:rare").total, ask("user:rare").next), (Total::Exactly(3), None));
}

#[test]
fn any_text_is_found_whatever_its_script_and_length() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut writer, _) = Writer::open_sized(folder.path(), SMALL).expect("it opens");
    let long = "x".repeat(200_000);
    let texts = ["日本語", "مرحبا", "👩‍👩‍👧", "a\"b\\c", "*", "a|b", "  blanks  ", "-minus", "key:value", "\u{202e}rtl", "e\u{301}", &long];
    for (sequence, text) in (1..).zip(texts) {
        let json = serde_json::to_string(text).expect("a text is JSON");
        let names: Vec<String> = (0..1_000).map(|n| format!("\"p{sequence}_{n}\":{n}")).collect();
        let log = log(&format!("c{sequence}"), NOW, &format!(r#","user_id":{json},"properties":{{"any":{json},"nothing":"",{}}}"#, names.join(",")));
        assert!(writer.add(row(&log, sequence)));
    }
    writer.commit(100).expect("the disk takes it");
    writer.save().expect("the disk takes it");
    drop(writer);
    let (writer, _) = Writer::open_sized(folder.path(), SMALL).expect("it opens again");
    let reader = writer.reader();
    let only = |query: Query| {
        let found = reader.search(&query, Times::ALL, Order::Newest, 10, None).expect("nothing is damaged");
        (found.rows.len() == 1).then(|| found.rows[0].sequence)
    };
    for (sequence, text) in (1..).zip(texts) {
        if text.len() < index::QUERY_MAX_BYTES {
            let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            for query in [format!("user:{quoted}"), format!("any:{quoted}"), quoted.clone()] {
                assert_eq!(only(parse(&query)), Some(sequence), "{query}");
            }
        }
        assert_eq!(only(parse(&format!("p{sequence}_999:999"))), Some(sequence));
    }
    // It does not fit a query whole, but its beginning does, and it comes back whole.
    let found = reader.search(&parse(&format!("any:{}*", &long[..1_000])), Times::ALL, Order::Newest, 10, None).expect("nothing is damaged");
    assert_eq!(found.rows[0].property("any"), Some(long.as_str()));
    assert_eq!(only(parse("has:nothing")), None);
    assert_eq!(reader.names(|_| false).expect("nothing is damaged").properties.len(), 10_000, "more names than are listed");
    let sums = reader.sums(&Query::default(), Times::ALL, &[Key::parse("any").expect("a key")], 100).expect("nothing is damaged");
    assert!(sums.groups.iter().all(|sum| sum.labels[0].len() <= model::label::LABEL_MAX_BYTES), "labels are cut");
    let values = reader.values(&Key::parse("user").expect("a key"), "日", 10).expect("nothing is damaged");
    assert_eq!(values, [("日本語".to_owned(), 1)]);
}

#[test]
fn a_property_with_a_very_long_name_is_found_by_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut writer, _) = Writer::open_sized(folder.path(), SMALL).expect("it opens");
    let name = "ñ".repeat(150);
    writer.add(row(&log("c", NOW, &format!(r#","properties":{{"{name}":1}}"#)), 1));
    writer.commit(1).expect("the disk takes it");
    let found = writer.reader().search(&parse(&format!("{name}:1 has:{name} \"{name}\">0")), Times::ALL, Order::Newest, 1, None);
    assert_eq!(found.expect("nothing is damaged").rows.len(), 1);
}

#[test]
fn calls_are_summed_by_one_or_two_texts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (writer, _) = Writer::open(folder.path()).expect("it opens");
    let refused = |keys: &[&str]| {
        let by: Vec<Key> = keys.iter().map(|key| Key::parse(key).expect("a key")).collect();
        writer.reader().sums(&Query::default(), Times::ALL, &by, 10).expect_err("no such table").to_string()
    };
    assert_eq!(refused(&["latency"]), "calls are not summed by `latency_ms`\nhint: sum by a text such as user_id, by status_code, or by a property");
    assert_eq!(refused(&["user", "signal"]).lines().next(), Some("calls are not summed by `signal`"));
    assert_eq!(refused(&[]), "0 keys\nhint: a table has one or two");
    assert_eq!(refused(&["user", "stage", "model"]), "3 keys\nhint: a table has one or two");
}

#[test]
fn a_text_that_is_no_cursor_is_refused() {
    for text in ["", "x-1-2", "n", "n-1", "n-zz-1", "n-1-2-3", "n--", "n-1-99999999999999999"] {
        let error = text.parse::<index::Cursor>().expect_err(text).to_string();
        assert!(error.starts_with(&format!("`{text}` is no place in a list")) && error.contains("\nhint: "), "{error}");
    }
}

#[test]
fn a_reader_on_another_thread_sees_whole_commits_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut writer, _) = Writer::open_sized(folder.path(), SMALL).expect("it opens");
    let reader = writer.reader();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut before = 0;
            while before < 2_000 {
                let found = reader.search(&Query::default(), Times::ALL, Order::Oldest, 1, None).expect("nothing is damaged");
                let Total::Exactly(total) = found.total else { panic!("{:?}", found.total) };
                assert!(total >= before && total.is_multiple_of(10), "{total} after {before}");
                before = total;
            }
        });
        for batch in 0..200 {
            for sequence in batch * 10 + 1..=batch * 10 + 10 {
                writer.add(row(&log(&format!("c{sequence}"), NOW, ""), sequence));
            }
            writer.commit(batch * 10 + 10).expect("the disk takes it");
        }
    });
}

#[test]
fn each_alternative_of_a_property_is_a_number_or_a_text_by_itself() {
    let sent = [r#""n":5"#, r#""n":10"#, r#""n":"11.5""#, r#""n":12.0"#, r#""n":0.5"#, r#""n":"five""#, r#""m":5"#];
    let rows = sent.map(|property| row(&log("c", NOW, &format!(r#","properties":{{{property}}}"#)), 1));
    for (query, calls) in
        [("n:5|10..12", 4), ("n:10..12|five", 4), ("n:f*|..1", 2), ("n:\"10..12\"", 0), ("n:0.50", 0), ("n:0.50..0.5", 1), ("-n:5|10..12", 3)]
    {
        assert_eq!(rows.iter().filter(|row| parse(query).matches(row)).count(), calls, "{query}");
    }
}

#[test]
fn a_mistyped_key_gets_a_hint_only_where_no_call_has_it() {
    let query = parse("modle:gpt-4o tennant:acme has:colour -xx>3");
    let known = BTreeSet::from(["tenant".to_owned(), "xx".to_owned()]);
    let unknown = query.unknown_properties(&known);
    let shown: Vec<_> = unknown.iter().map(|unknown| (unknown.at, unknown.name.as_str(), unknown.meant.as_deref())).collect();
    assert_eq!(shown, [(0, "modle", Some("model")), (13, "tennant", Some("tenant")), (26, "colour", None)]);
    assert_eq!(Query::having(&[Key::property("tennant")]).unknown_properties(&known)[0].meant.as_deref(), Some("tenant"));
}

#[test]
fn a_mistyped_signal_gets_a_hint_unless_some_call_has_it_however_old() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut writer, _) = Writer::open_sized(folder.path(), SMALL).expect("it opens");
    for sequence in 1..=5_000 {
        let more = if sequence == 1 { r#","properties":{"colour":"blue"}"# } else { r#","properties":{"tenant":"acme"}"# };
        assert!(writer.add(row(&log(&format!("c{sequence}"), NOW, more), sequence)));
    }
    writer.commit(5_000).expect("the disk takes it");
    let unknown = |text: &str| {
        let query = parse(text);
        let names = writer.reader().names(|names| query.is_of(names)).expect("nothing is damaged");
        let all = query.unknown_properties(&names.properties).into_iter().chain(query.unknown_signals(&names.signals));
        all.map(|unknown| (unknown.at, unknown.name, unknown.meant.unwrap_or_default())).collect::<Vec<_>>()
    };
    assert_eq!(unknown("tenant:acme -colour:red signal:no_facts|retry"), []);
    let (retry, json) = ("retry".to_owned(), "invalid_json".to_owned());
    assert_eq!(unknown("tenant:x -signal:invalidjson|retrys"), [(9, "invalidjson".to_owned(), json), (9, "retrys".to_owned(), retry)]);
    assert_eq!(unknown("tenent:x signal:no_fact"), [(0, "tenent".to_owned(), "tenant".to_owned()), (9, "no_fact".to_owned(), "no_facts".to_owned())]);
}

#[test]
fn whoever_finds_nothing_is_told_how_bare_words_and_commas_are_read() {
    let query = "stage:extraction,synthesis extraction user:\"Doe, Jane\" tags:*a,b* place:a,b|c latency>1s";
    let said = parse(query).readings();
    assert_eq!(
        said.iter().map(|(at, _)| query[*at..].split(' ').next()).collect::<Vec<_>>(),
        [Some("stage:extraction,synthesis"), Some("extraction"), Some("place:a,b|c")]
    );
    assert_eq!(said[0].1, "`extraction,synthesis` is one value; alternatives are written extraction|synthesis");
    assert_eq!(said[1].1, "`extraction` is looked for as a whole id: a call's, a run's or a user's");
}

#[test]
fn pages_neither_skip_nor_repeat_while_calls_come_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut writer, _) = Writer::open_sized(folder.path(), SMALL).expect("it opens");
    let mut rng = fastrand::Rng::with_seed(seed());
    let mut sequence = 0;
    let mut more = |writer: &mut Writer, calls: u64, at: i64| {
        for _ in 0..calls {
            sequence += 1;
            writer.add(row(&log(&format!("c{sequence}"), at + rng.i64(0..1_000), ""), sequence));
        }
        writer.commit(sequence).expect("the disk takes it");
    };
    more(&mut writer, 1_000, NOW);
    for (order, later) in [(Order::Newest, 10_000), (Order::Oldest, 20_000)] {
        let there = writer.reader().calls();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = writer.reader().search(&Query::default(), Times::ALL, order, 37, after).expect("nothing is damaged");
            seen.extend(page.rows.iter().map(|row| row.sequence));
            after = page.next;
            if after.is_none() || seen.len() as u64 >= there {
                break;
            }
            more(&mut writer, 20, NOW + later);
        }
        let distinct: BTreeSet<u64> = seen.iter().copied().collect();
        assert_eq!(distinct.len(), seen.len(), "{order:?}: a call is on two pages");
        assert!((1..=there).all(|sequence| distinct.contains(&sequence)), "{order:?}: a call that was there at first is on no page");
    }
}
