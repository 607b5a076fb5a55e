//! Judges as folders: the shipped ones, mistakes in a user's own, pairs, and what real replies read as.

use std::collections::BTreeSet;
use std::path::PathBuf;
use streamgauge_evaluators::judge::{self, Folder, Judge, Kind, Label, Nonce, Order, Preference, Settled, Unaskable, Unreadable, settle};

const NONCE: &str = "5d41402abc4b2a76b9719d911017c592";

fn nonce() -> Nonce {
    Nonce::new(NONCE).expect("thirty-two digits")
}

fn shipped() -> Vec<Judge> {
    let names: Vec<_> = judge::shipped().map(String::from).collect();
    let loaded = judge::load(&judge::library(&names).expect("shipped names"));
    assert_eq!(loaded.problems, [], "{}", loaded.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    loaded.judges
}

/// A reply that a good model could give, by hand.
fn reply(judge: &str, pass: bool) -> String {
    let own = match (judge, pass) {
        ("retrieval-relevance", true) => "\"score\":2",
        ("retrieval-relevance", false) => "\"score\":1",
        ("synthesis-quality", true) => "\"score\":4",
        ("synthesis-quality", false) => "\"score\":3",
        ("synthesis-consistency", true) => "\"verdict\":\"pass\"",
        ("synthesis-consistency", false) => "\"verdict\":\"fail\"",
        (_, true) => "\"unsupported\":[],\"verdict\":\"pass\"",
        (_, false) => "\"unsupported\":[\"x\"],\"verdict\":\"fail\"",
    };
    format!("{{\"nonce\":\"{NONCE}\",\"reasoning\":\"because\",{own}}}")
}

#[test]
fn every_shipped_judge_loads_shows_its_cases_and_reads_a_good_reply() {
    let judges = shipped();
    assert_eq!(judges.len(), 5);
    for judge in judges {
        let name = judge.name();
        let labelled = |label| judge.cases().iter().filter(|case| case.label == label).count();
        assert!(labelled(Label::Pass) >= 5 && labelled(Label::Fail) >= 5 && judge.cases().len() >= 12, "{name}");
        let ids: BTreeSet<_> = judge.cases().iter().map(|case| &case.id).collect();
        assert_eq!(ids.len(), judge.cases().len(), "{name}");
        assert!(judge.cases().iter().all(|case| !case.why.is_empty()), "{name}");
        assert!(judge.cases().iter().any(|case| case.id == "injected" && case.label == Label::Fail), "{name}");
        assert!(!judge.applies().0.is_empty() && !judge.description().is_empty(), "{name}");
        for case in judge.cases() {
            let request = judge.ask(&case.call(), &nonce()).unwrap_or_else(|why| panic!("{name}, {}: {why}", case.id));
            assert!(request.user.contains(&format!("<<data {NONCE}\n")) && request.system.contains(&format!("\"{NONCE}\"")), "{name}, {}", case.id);
            assert!(!request.schema.contains(NONCE), "{name}: endpoints that compile schemas would do it for every call");
            if let (Kind::Score(scale), Some(score)) = (judge.kind(), case.score) {
                assert_eq!(scale.passes(score), case.label == Label::Pass, "{name}, {}: score and label disagree", case.id);
            }
        }
        for pass in [true, false] {
            let opinion = judge.read(&reply(name, pass), &nonce()).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!((opinion.pass, opinion.reason.as_str()), (pass, "because"), "{name}");
        }
        assert_eq!(judge.read(&reply(name, true), &Nonce::new("0".repeat(16)).expect("digits")), Err(Unreadable::Nonce), "{name}");
    }
}

#[test]
fn a_name_that_is_not_shipped_is_refused_with_the_nearest() {
    let unknown = judge::library(&["synthesis-quallity".to_owned()]).expect_err("no such judge");
    assert!(unknown.to_string().contains("hint: did you mean `synthesis-quality`?"), "{unknown}");
}

/// A small judge of the user's own; each `(file, text)` replaces a file, or takes it away when empty.
fn folder(changes: &[(&str, &str)]) -> Folder {
    let mut files: std::collections::BTreeMap<String, String> = [
        ("judge.toml", "description = \"d\"\nscale = [1, 5]\nthreshold = 0.75\nneeds = [\"question\", \"answer\"]\n"),
        ("prompt.md", "Question: {{ question }}\nAnswer: {{ answer }}\n"),
        (
            "reply.schema.json",
            r#"{"type":"object","required":["reasoning","score"],"properties":{"reasoning":{"type":"string"},"score":{"type":"number"}}}"#,
        ),
        ("cases.jsonl", "{\"id\":\"a\",\"label\":\"pass\",\"log\":{\"input\":\"q\",\"output\":\"a\"}}\n"),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .collect();
    for (file, text) in changes {
        if text.is_empty() {
            files.remove(*file);
        } else {
            files.insert((*file).to_owned(), (*text).to_owned());
        }
    }
    Folder { path: PathBuf::from("judges/own"), files }
}

fn own(changes: &[(&str, &str)]) -> Judge {
    let loaded = judge::load(&[folder(changes)]);
    assert_eq!(loaded.problems, []);
    loaded.judges.into_iter().next().expect("one judge")
}

fn problems(changes: &[(&str, &str)]) -> String {
    let loaded = judge::load(&[folder(changes)]);
    assert!(loaded.judges.is_empty());
    loaded.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn mistakes_say_where_they_are_and_the_way_out() {
    const KNOWN: &str = "description, kind, applies, needs, scale, threshold, max_output_tokens, model";
    for (changes, expected) in [
        (
            &[("judge.toml", "description = \"d\"\ntreshold = 0.5\n")][..],
            format!("judges/own/judge.toml:2: unknown key `treshold`\nhint: did you mean `threshold`? known: {KNOWN}"),
        ),
        (
            &[("judge.toml", "description = \"d\"\nscale = [5, 1]\nthreshold = 0.5")],
            "judges/own/judge.toml:2: `scale` must be the worst and the best score\nhint: as in scale = [1, 5]".to_owned(),
        ),
        (
            &[("judge.toml", "description = \"d\"\nscale = [1, 5]\nthreshold = 4")],
            "judges/own/judge.toml:3: `threshold` must be above 0 and at most 1\nhint: it is a share of the scale: of 1 to 5, 0.75 is 4".to_owned(),
        ),
        (
            &[("judge.toml", "description = \"d\"\nkind = \"pairs\"")],
            "judges/own/judge.toml:2: `kind` cannot be `pairs`\nhint: did you mean `pair`? known: answer, pair".to_owned(),
        ),
        (
            &[("judge.toml", "description = \"d\"\nneeds = [\"answers\"]\nscale=[1,5]\nthreshold=0.5")],
            "judges/own/judge.toml:2: `needs` cannot hold `answers`\nhint: did you mean `answer`? known: question, context, retrieved, messages, answer, earlier_answers, json".to_owned(),
        ),
        (
            &[("judge.toml", "description = \"d\"\napplies = { environment = \"test\" }\nscale=[1,5]\nthreshold=0.5")],
            "judges/own/judge.toml:2: `applies` cannot ask for `environment`\nhint: environments are chosen in the configuration; keys are stage, model and so on, or properties.…".to_owned(),
        ),
        (
            &[("judge.toml", "description = ")],
            "judges/own/judge.toml:1: string values must be quoted, expected literal string\nhint: this is TOML: text stands in quotes, lists in [ ], tables in { }".to_owned(),
        ),
        (
            &[("prompt.md", "{{ answer }}\n{{ qestion }}")],
            "judges/own/prompt.md:2: there is no `qestion`\nhint: did you mean `question`? known: log, question, context, retrieved, messages, answer, earlier_answers, json, schema, properties, first, second".to_owned(),
        ),
        (&[("prompt.md", "Is it good?")], "judges/own/prompt.md: it shows nothing of what is judged\nhint: print {{ answer }} or {{ retrieved }}".to_owned()),
        (
            &[("prompt.md", ""), ("promt.md", "x")],
            "judges/own/prompt.md: there is no such file\nhint: rename `promt.md`? a judge's files are: judge.toml, prompt.md, reply.schema.json, cases.jsonl".to_owned(),
        ),
        (
            &[("reply.schema.json", r#"{"type":"object","required":["reasoning"],"properties":{"reasoning":{}}}"#)],
            "judges/own/reply.schema.json: it has no property `score`\nhint: add \"score\": { \"type\": \"number\", \"minimum\": 1, \"maximum\": 5 }".to_owned(),
        ),
        (
            &[("cases.jsonl", "{\"id\":\"a\",\"label\":\"pass\",\"log\":{\"output\":\"a\"}}")],
            "judges/own/cases.jsonl:1: case `a`: the call has no question\nhint: a case has everything that the prompt prints and judge.toml needs".to_owned(),
        ),
        (
            &[("cases.jsonl", "\n{\"id\":\"a\",\"label\":\"pas\",\"log\":{}}")],
            "judges/own/cases.jsonl:2: `pas` is no label here\nhint: did you mean `pass`? known: pass, fail".to_owned(),
        ),
    ] {
        assert_eq!(problems(changes), expected);
    }
    let unknown_filter = problems(&[("prompt.md", "{{ answer }}\n{{ answer | upper }}"), ("cases.jsonl", "")]);
    assert!(unknown_filter.starts_with("judges/own/prompt.md:2: "), "{unknown_filter}");
    let misnamed = judge::load(&[Folder { path: "judges/My Judge".into(), ..folder(&[]) }]);
    assert!(misnamed.problems[0].to_string().starts_with("judges/My Judge: `My Judge` cannot be a judge's name\nhint: "), "{}", misnamed.problems[0]);
}

#[test]
fn one_bad_folder_does_not_stop_the_others() {
    let good = Folder { path: "judges/good".into(), ..folder(&[]) };
    let loaded = judge::load(&[folder(&[("prompt.md", "")]), good.clone(), Folder { path: "elsewhere/good".into(), ..good }]);
    assert_eq!(loaded.judges.iter().map(Judge::name).collect::<Vec<_>>(), ["good"]);
    assert_eq!(loaded.problems.len(), 2);
    assert_eq!(loaded.problems[1].message, "there is a judge `good` already");
}

#[test]
fn the_fingerprint_follows_what_is_measured_and_nothing_else() {
    let plain = own(&[]).fingerprint(&["gpt-4o", "temperature 0"]);
    let toml = "description = \"d\"\nscale = [1, 5]\nthreshold = 0.75\nneeds = [\"question\", \"answer\"]\n";
    for same in [
        &[("cases.jsonl", "{\"id\":\"b\",\"label\":\"fail\",\"log\":{\"input\":\"q\",\"output\":\"a\"}}\n")][..],
        &[("judge.toml", &toml.replace("\"d\"", "\"another\""))],
        &[("prompt.md", "Question: {{ question }}\r\nAnswer: {{ answer }}\r\n")],
    ] {
        assert_eq!(own(same).fingerprint(&["gpt-4o", "temperature 0"]), plain, "{same:?}");
    }
    for other in [
        &[("prompt.md", "The question: {{ question }}\nAnswer: {{ answer }}\n")][..],
        &[("judge.toml", &toml.replace("0.75", "0.5"))],
        &[("judge.toml", &toml.replace("[1, 5]", "[0, 5]"))],
        &[(
            "reply.schema.json",
            r#"{"type":"object","required":["reasoning","score"],"properties":{"reasoning":{"type":"string"},"score":{"type":"integer"}}}"#,
        )],
    ] {
        assert_ne!(own(other).fingerprint(&["gpt-4o", "temperature 0"]), plain, "{other:?}");
    }
    assert_ne!(own(&[]).fingerprint(&["gpt-4o-mini", "temperature 0"]), plain);
}

#[test]
fn a_call_without_what_the_judge_needs_is_not_asked_about() {
    let judge = own(&[]);
    let ask = |log: &str| judge.ask(&model::parse(log.as_bytes()).expect("a good log"), &nonce()).map(|request| request.user);
    assert_eq!(ask(r#"{"id":"a","time":1700000000000,"model":"m","input":"q"}"#), Err(Unaskable::Missing("answer")));
    assert_eq!(ask(r#"{"id":"a","time":1700000000000,"model":"m","output":"a"}"#), Err(Unaskable::Missing("question")));
    let asked = ask(r#"{"id":"a","time":1700000000000,"model":"m","input":"q","output":"a"}"#);
    assert_eq!(asked, Ok(format!("Question: <<data {NONCE}\nq\ndata {NONCE}>>\nAnswer: <<data {NONCE}\na\ndata {NONCE}>>")));
}

#[test]
fn a_pair_is_asked_in_both_orders_and_read_back_as_given() {
    let judge = own(&[
        ("judge.toml", "description = \"d\"\nkind = \"pair\"\n"),
        ("prompt.md", "{{ question }} A: {{ first }} B: {{ second }}"),
        (
            "reply.schema.json",
            r#"{"type":"object","required":["reasoning","verdict"],"properties":{"reasoning":{"type":"string"},"verdict":{"enum":["first","second","tie"]}}}"#,
        ),
        ("cases.jsonl", "{\"id\":\"a\",\"label\":\"first\",\"first\":{\"input\":\"q\",\"output\":\"one\"},\"second\":{\"output\":\"two\"}}"),
    ]);
    let case = &judge.cases()[0];
    let second = case.second().expect("a pair");
    let ask = |order| judge.ask_pair(&case.call(), &second, order, &nonce()).expect("both answers are there").user;
    let place = |user: &str, text: &str| user.find(&format!("\n{text}\n")).expect("the answer is shown");
    let (as_given, swapped) = (ask(Order::AsGiven), ask(Order::Swapped));
    assert!(place(&as_given, "one") < place(&as_given, "two") && place(&swapped, "two") < place(&swapped, "one"));
    let says = |verdict: &str, order| {
        let reply = format!("{{\"nonce\":\"{NONCE}\",\"reasoning\":\"r\",\"verdict\":\"{verdict}\"}}");
        judge.read_pair(&reply, order, &nonce()).expect("a good reply").0
    };
    // Always the first shown: a preference for the place.
    assert_eq!(settle(says("first", Order::AsGiven), says("first", Order::Swapped)), Settled::Inconsistent);
    assert_eq!(settle(says("first", Order::AsGiven), says("second", Order::Swapped)), Settled::Agreed(Preference::First));
    assert_eq!(judge.ask(&case.call(), &nonce()), Err(Unaskable::Missing("second answer to compare it with")));
    assert_eq!(own(&[]).ask_pair(&case.call(), &second, Order::AsGiven, &nonce()), Err(Unaskable::Single));
}

/// Texts of a real judge, most of which forget the form they were asked for. What is read is only what the schema says how to read.
#[test]
fn recorded_judgments_without_a_score_are_unreadable_and_never_guessed() {
    let Some(folder) = std::env::var_os("STREAMGAUGE_RECORDINGS") else {
        eprintln!("skipped: STREAMGAUGE_RECORDINGS is not set");
        return;
    };
    let path = PathBuf::from(folder).join("mtbench_gpt4_single/gpt-4_single.jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let judge = own(&[
        ("judge.toml", "description = \"d\"\nscale = [1, 10]\nthreshold = 0.5\nneeds = [\"answer\"]\n"),
        (
            "reply.schema.json",
            r#"{"type":"object","required":["reasoning","score"],"properties":{"reasoning":{"type":"string"},"score":{"type":"number","x-in-text":"\\[\\[(\\d+(?:\\.\\d+)?)\\]\\]"}}}"#,
        ),
    ]);
    let strict = own(&[]);
    let (mut read, mut contradict, mut silent, mut guessable) = (0, 0, 0, 0);
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        let judgment = row["judgment"].as_str().expect("a text");
        // The recorded judge was given no nonce: as it stands, nothing of it is an answer to a request of ours.
        assert!(judge.read(judgment, &nonce()).is_err() && strict.read(judgment, &nonce()).is_err());
        match judge.read(&format!("{judgment}\n{NONCE}"), &nonce()) {
            Ok(opinion) => {
                let score = row["score"].as_f64().expect("a number");
                assert!((opinion.score.expect("a score") * 9.0 + 1.0 - score).abs() < 1e-9, "{judgment}");
                read += 1;
            }
            // Two scores, one of them of an answer that was never given: which is meant, only a person can say.
            Err(Unreadable::Contradiction) => contradict += 1,
            Err(_) => {
                silent += 1;
                guessable += u32::from(judgment.contains("rate the response as"));
            }
        }
    }
    eprintln!("read {read}, {contradict} contradict themselves, {silent} have no score as asked, of which {guessable} say a number in prose");
    assert_eq!((read, contradict, silent), (34, 3, 123));
    assert!(guessable > 0);
}
