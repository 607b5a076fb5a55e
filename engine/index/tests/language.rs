//! `QUERY.md` is true: each of its examples is read, and each refusal is given in its words.

use index::Query;
use model::Timestamp;

const REFERENCE: &str = include_str!("../QUERY.md");

fn parse(text: &str) -> Result<Query, index::QueryError> {
    Query::parse(text, Timestamp::parse("2026-01-05T12:00:00Z").expect("a time"))
}

#[test]
fn every_example_of_the_reference_is_read() {
    let (_, rest) = REFERENCE.split_once("```query\n").expect("there are examples");
    let (examples, _) = rest.split_once("```").expect("they end");
    let mut read = 0;
    for example in examples.lines() {
        parse(example).unwrap_or_else(|error| panic!("{example}\n{error}"));
        read += 1;
    }
    assert!(read > 15, "only {read} examples");
}

#[test]
fn every_refusal_of_the_reference_is_given_in_its_words() {
    let (_, refused) = REFERENCE.split_once("## What is refused").expect("there is a table");
    let mut read = 0;
    for line in refused.lines().filter(|line| line.starts_with("| `")) {
        // Cells are parted by bars that have no backslash before them.
        let line = line.replace("\\|", "\u{1}");
        let cells: Vec<String> = line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('\u{1}', "|")).collect();
        let [query, at, message, hint] = cells.as_slice() else { panic!("{line}: {} cells", cells.len()) };
        let query = query.trim_matches('`');
        let error = parse(query).err().unwrap_or_else(|| panic!("{query} is read"));
        assert_eq!(error.to_string(), format!("query:{at}: {message}\nhint: {hint}"), "{query}");
        read += 1;
    }
    assert!(read > 20, "only {read} refusals");
}

#[test]
fn no_text_makes_the_parser_panic() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let parts = [
        "stage",
        ":",
        ">",
        "<=",
        "\"",
        "\\",
        "*",
        "|",
        "-",
        "..",
        " ",
        "日本",
        "5xx",
        "$",
        "1.5",
        "s",
        "has",
        "since",
        "verdict",
        "=",
        "time",
        "2026-01-05",
        "tenant",
        "(",
    ];
    for _ in 0..50_000 {
        let text: String = (0..rng.usize(..12)).map(|_| parts[rng.usize(..parts.len())]).collect();
        if let Err(error) = parse(&text) {
            assert!(text.is_char_boundary(error.at), "{text:?}: {error}");
            assert!(error.hint.is_some(), "{text:?}: {error}");
        }
    }
}

#[test]
fn too_much_is_refused() {
    let terms = vec!["a:1"; index::TERMS_MAX + 1].join(" ");
    assert!(parse(&terms).expect_err("too many").to_string().starts_with(&format!("query:{}: more than 32 terms", 4 * index::TERMS_MAX + 1)));
    assert!(parse(&"é".repeat(index::QUERY_MAX_BYTES)).expect_err("too long").message.contains("8192 bytes"));
    assert!(parse("a:*1*2*3*4*5*6*7*8*").expect_err("too many stars").message.contains("more than 8 stars"));
}
