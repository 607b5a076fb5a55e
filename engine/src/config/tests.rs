//! One `check`: a file as text, with overrides as lines that begin with `$ `, and the problems as users read them.

use std::{env, fs};

use super::*;

const EXAMPLE: &str = include_str!("../../../deploy/streamgauge.toml");

fn load(input: &str) -> Result<Config, ConfigErrors> {
    let (overrides, file): (Vec<&str>, Vec<&str>) = input.lines().partition(|line| line.starts_with("$ "));
    let (sets, variables): (Vec<&str>, Vec<&str>) = overrides.iter().map(|line| &line[2..]).partition(|line| line.starts_with("--set "));
    let variables = variables.iter().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sets: Vec<String> = sets.iter().map(|line| line["--set ".len()..].to_owned()).collect();
    Config::assemble(Node::parse("streamgauge.toml", &file.join("\n"))?, Path::new("/etc/gauge"), variables, &sets)
}

#[track_caller]
fn good(input: &str) -> Config {
    load(input).unwrap_or_else(|errors| panic!("{errors}"))
}

/// `expected` without the file's name before each place, and without indentation.
#[track_caller]
fn check(input: &str, expected: &str) {
    let found = load(input).err().map_or_else(|| "accepted".to_owned(), |errors| errors.to_string());
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(found.replace("streamgauge.toml:", ""), expected.join("\n"), "for:\n{input}");
}

#[test]
fn unknown_keys_name_the_nearest_one_and_all_the_others() {
    check(
        "[nats]\nurl = \"nats://n:4222\"\nsteam = \"CALLS\"",
        "3:1: unknown key `nats.steam`
         hint: did you mean `stream`? known: url, delivery, stream, subjects, credentials, user, password, token, tls, max_age, max_bytes, replicas",
    );
    check(
        "[htpt]\n",
        "1:2: unknown key `htpt`\nhint: did you mean `http`? known: false_alarms, nats, store, rules, slack, webhooks, alertmanager, incidents, http, windows, environments, schemas, objectives, evaluators, judges, prices, redact, index, access",
    );
    check(
        "[environments.prod]\nchanel = \"#a\"",
        "2:1: unknown key `environments.prod.chanel`\nhint: did you mean `channel`? known: channel, notify",
    );
    check("[store]\nzebra = 1", "2:1: unknown key `store.zebra`\nhint: known: path, retention, max_size");
    check(
        "nats.tls.x = { y = 1 }\n$ STREAMGAUGE__HTTP__LISTN=x\n$ --set rules.libary=[]",
        "1:10: unknown key `nats.tls.x`\nhint: known: ca, cert, key, required
         STREAMGAUGE__HTTP__LISTN: unknown key `http.listn`\nhint: did you mean `listen`? known: listen, public_url
         --set rules.libary: unknown key `rules.libary`\nhint: did you mean `library`? known: path, library, constants",
    );
}

#[test]
fn a_budget_of_false_alarms_is_said_in_words() {
    check("false_alarms = \"2 per week\"", "accepted");
    check(
        "false_alarms = \"daily\"",
        "1:16: `false_alarms` `daily` is no number of false alarms\nhint: write it as `1 per day`, `2 per week` or `1 per month`",
    );
}

#[test]
fn sections_of_later_versions_are_refused() {
    check(
        "[keep]\n[sampling]",
        "1:2: `keep` is not available in this version
         hint: remove it; known: false_alarms, nats, store, rules, slack, webhooks, alertmanager, incidents, http, windows, environments, schemas, objectives, evaluators, judges, prices, redact, index, access
         2:2: `sampling` is not available in this version
         hint: remove it; known: false_alarms, nats, store, rules, slack, webhooks, alertmanager, incidents, http, windows, environments, schemas, objectives, evaluators, judges, prices, redact, index, access",
    );
}

#[test]
fn every_mistake_of_syntax_is_reported_at_its_place() {
    let hint = "hint: this is TOML: text stands in quotes, lists in [ ], tables in { }, and [section] on a line of its own";
    check(
        "[nats]\nurl = \n[http\n",
        &format!("2:7: string values must be quoted, expected literal string\n{hint}\n3:6: unclosed table, expected `]`\n{hint}"),
    );
    check("[nats]\nreplicas = 1\nreplicas = 3", &format!("3:1: duplicate key\n{hint}"));
}

#[test]
fn values_of_the_wrong_kind_say_what_was_found() {
    check(
        "[nats]\nstream = 5\nsubjects = \"llm.>\"\nreplicas = \"3\"\nurl = []\n[windows]\nseries_max = 2.5",
        "2:10: `nats.stream` must be text, not a whole number\nhint: write it in quotes
         3:12: `nats.subjects` must be a list, not text\nhint: write [\"one\", \"two\"]
         4:12: `nats.replicas` must be a whole number, not text\nhint: write digits without quotes
         5:7: `nats.url` must be text, not a list\nhint: write it in quotes
         7:14: `windows.series_max` must be a whole number, not a fraction\nhint: write digits without quotes",
    );
    check("http = 8470", "1:8: `http` must be a section, not a whole number\nhint: write [http], and its keys on the lines below");
    check(
        "[environments]\nprod = \"#prod\"",
        "2:8: `environments.prod` must be a section, not text\nhint: write [environments.prod], and its keys on the lines below",
    );
    check(
        "[environments.test]\nnotify = \"no\"",
        "2:10: `environments.test.notify` must be true or false, not text\nhint: write true or false, without quotes",
    );
    check("[schemas.facts]\napplies = { stage = 1 }", "2:21: `schemas.facts.applies` must be text, not a whole number\nhint: write it in quotes");
}

#[test]
fn durations_and_sizes_say_what_they_accept() {
    check(
        "[store]\nretention = \"7 days\"\nmax_size = \"20G\"\n[slack]\ntimeout = 10",
        "2:13: `store.retention` cannot be read: `7 days` is not a duration
         hint: whole numbers with d, h, m, s or ms, largest first, such as \"7d\", \"1h30m\" or \"250ms\"
         3:12: `store.max_size` cannot be read: `20G` is not a size
         hint: a whole number with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as \"20 GiB\"
         5:11: `slack.timeout` must be text, not a whole number
         hint: durations are text with a unit, such as \"30s\"",
    );
    check(
        "[slack]\ntimeout = \"1m1ms\"\n[store]\nmax_size = \"1 MB\"\n[nats]\nreplicas = 6\nmax_age = \"0s\"",
        "2:11: `slack.timeout` is out of range: 1m1ms\nhint: from 1s to 1m
         4:12: `store.max_size` is out of range: 1 MB\nhint: from 64 MiB to 1048576 TiB
         6:12: `nats.replicas` is out of range: 6\nhint: from 1 to 5
         7:11: `nats.max_age` is out of range: 0s\nhint: from 1m to 3650d",
    );
}

#[test]
fn durations_and_sizes_read_back_as_written() {
    for text in ["0s", "250ms", "5s", "1h30m", "7d", "1d2h3m4s5ms"] {
        assert_eq!(duration(text).map(render_duration), Ok(text.to_owned()));
    }
    for text in ["", "5", "s", "5 s", "1.5h", "-5s", "5m3h", "1s1s", "5S", "99999999999999999999s", "999999999999999d"] {
        assert_eq!(duration(text), Err(ValueError::Duration(text.to_owned())));
    }
    for (text, bytes) in [("0 B", 0), ("500 MB", 500_000_000), ("1 KiB", 1024), ("20 GiB", 20 << 30)] {
        let size: Result<Size, _> = text.parse();
        assert_eq!(size.clone().map(Size::bytes), Ok(bytes));
        assert_eq!(size.map(|size| size.to_string()), Ok(text.to_owned()));
    }
    for text in ["", "20", "GiB", "1.5 GiB", "20 gib", "-1 B", "99999999 TiB"] {
        assert_eq!(text.parse::<Size>(), Err(ValueError::Size(text.to_owned())));
    }
}

#[test]
fn slices_divide_the_tick_and_lateness() {
    check(
        "[windows]\nslice = \"3s\"",
        "2:9: `windows.slice` must divide the 10s tick of drift detection, which 3s does not\nhint: one of 1s, 2s, 5s, 10s",
    );
    check(
        "[windows]\nslice = \"1s500ms\"\nlateness = \"7s\"",
        "2:9: `windows.slice` must divide the 10s tick of drift detection, which 1s500ms does not\nhint: one of 1s, 2s, 5s, 10s",
    );
    check("[windows]\nlateness = \"12s\"", "2:12: `windows` must have a `lateness` in whole slices of 5s, not 12s\nhint: try lateness = \"30s\"");
    check(
        "[windows]\nslice = \"10s\"\nlateness = \"1m\"\nseries_max = 99",
        "4:14: `windows.series_max` is out of range: 99\nhint: from 100 to 1000000",
    );
    assert_eq!(good("[windows]\nslice = \"2s\"\nlateness = \"0s\"").windows.slice, Duration::from_secs(2));
}

#[test]
fn names_and_addresses_are_checked_for_their_shape() {
    check(
        "[nats]\nurl = \"localhost:4222\"\nstream = \"llm.calls\"\n[slack]\napi_url = \"ftp://slack.com\"\nchannel = \"LLM alerts\"\n[http]\nlisten = \"8470\"",
        "2:7: `nats.url` must be one address that starts with nats:// or tls://, not `localhost:4222`
         hint: such as nats://host:port
         3:10: `nats.stream` must be the name of a JetStream stream, not `llm.calls`
         hint: no spaces, dots, slashes, * or >, such as \"LLM_CALLS\"
         5:11: `slack.api_url` must be one address that starts with https:// or http://, not `ftp://slack.com`
         hint: such as https://host:port
         6:11: `slack.channel` must be a Slack channel, not `LLM alerts`
         hint: \"#name\" in lower case without spaces, or a channel's id such as \"C0123ABCD\"
         8:10: `http.listen` must be an address to listen on, not `8470`
         hint: an IP address and a port, such as \"127.0.0.1:8470\", \"0.0.0.0:8470\" or \"[::1]:8470\"",
    );
    check(
        "[rules]\nlibrary = [\"basics\", \"my/pack\"]",
        "2:22: `rules.library` has a name that cannot be: `my/pack`\nhint: names are letters, digits, - and _, such as \"basics\"",
    );
    check("[store]\npath = \"\"", "2:8: `store.path` must not be empty\nhint: write a path, or remove the key");
    assert_eq!(good("slack.channel = \"C0123\"").slack.channel, "C0123");
}

#[test]
fn subjects_are_valid_apart_and_not_our_own() {
    let ours = "hint: use a narrower subject, such as \"llm.calls.>\"";
    check(
        "nats.delivery = \"queue\"",
        "1:17: `nats.delivery` must be `jetstream` or `core`, not `queue`\nhint: `jetstream` counts every call once; `core` needs no stream, and loses what is published while the engine is down or slow",
    );
    check("nats.subjects = []", "1:17: `nats.subjects` must not be empty\nhint: say where calls are published, such as [\"llm.calls.>\"]");
    check(
        "nats.subjects = [\"llm..calls\"]",
        "1:18: `nats.subjects` has no NATS subject in `llm..calls`\nhint: words joined by dots, * for one word, > for the rest, such as \"llm.calls.>\"",
    );
    check("nats.subjects = [\">\"]", &format!("1:18: `nats.subjects` would take in our own output: `>` overlaps `streamgauge.alerts.>`\n{ours}"));
    check(
        "nats.subjects = [\"a\", \"*.dead\"]",
        &format!("1:23: `nats.subjects` would take in our own output: `*.dead` overlaps `streamgauge.dead`\n{ours}"),
    );
    for subject in ["streamgauge.incidents.>", "streamgauge.verdicts.>", "streamgauge.datasets.>"] {
        let said = format!("1:18: `nats.subjects` would take in our own output: `{subject}` overlaps `{subject}`\n{ours}");
        check(&format!("nats.subjects = [\"{subject}\"]"), &said);
    }
    check(
        "nats.subjects = [\"llm.>\", \"llm.calls\"]",
        "1:17: `nats.subjects` must not overlap, for NATS refuses such a stream: `llm.>` and `llm.calls`\nhint: keep the wider one",
    );
    assert_eq!(good("nats.subjects = [\"*.llm.calls\", \"llm.*\", \"llm.*.x\"]").nats.subjects.len(), 3);
}

#[test]
fn keys_that_need_each_other_are_checked_together() {
    let one = "`nats` must sign in one way: `credentials`, `user` with `password`, or `token`\nhint: keep the keys of one way, and remove the others";
    check("[nats]\nuser = { env = \"U\" }", &format!("2:8: {one}"));
    check("[nats]\ncredentials = \"a.creds\"\n$ STREAMGAUGE__NATS__TOKEN=t", &format!("STREAMGAUGE__NATS__TOKEN: {one}"));
    check("[nats.tls]\ncert = \"a.pem\"", "2:8: `nats.tls` must have `cert` and `key` together\nhint: add the other one, or remove both");
    check("[objectives.slow]", "1:13: `objectives.slow` needs `latency`\nhint: say when an operation is slow, such as latency = \"2s\"");
    let inline = |text: &str| good(text).schemas["facts"].schema.clone();
    let json = |json: &str| Some(SchemaText::Inline { json: json.to_owned(), folder: "/etc/gauge".into() });
    assert_eq!(inline("[schemas.facts]\nschema = { type = \"object\", required = [\"facts\"] }"), json(r#"{"required":["facts"],"type":"object"}"#));
    assert_eq!(inline("[schemas.facts]\nschema = '{\"type\": \"object\"}'"), json(r#"{"type": "object"}"#));
    check(
        "[schemas.facts]\nschema = \"facts.json\"",
        "2:10: `schemas.facts.schema` must be a JSON Schema: expected ident at line 1 column 3\nhint: a schema in a file of its own is given as `file`",
    );
    check("[schemas.facts]\nschema = {}\nfile = \"facts.json\"", "3:8: `schemas.facts` has two schemas, `file` and `schema`\nhint: keep one of them");
    check(
        "[schemas.facts]",
        "1:10: `schemas.facts` asks for nothing\nhint: give it a `file` or a `schema`, or say which calls must answer JSON with `applies`",
    );
}

#[test]
fn secrets_are_never_accepted_as_text_nor_repeated() {
    let way = "hint: write { env = \"NAME\" } or { file = \"path\" }";
    let text = "is a secret, which does not belong in the file or on the command line";
    check(
        "[slack]\nbot_token = \"xoxb-1\"\n$ --set slack.app_token=xapp-1",
        &format!("2:13: `slack.bot_token` {text}\n{way}\n--set slack.app_token: `slack.app_token` {text}\n{way}"),
    );
    check(
        "[slack]\nbot_token = { env = \"xoxb-1\" }",
        &format!("2:21: `slack.bot_token` must name an environment variable: letters, digits and _\n{way}"),
    );
    check("[slack]\nbot_token = { env = \"A\", file = \"b\" }", &format!("2:33: `slack.bot_token` must have one key, `env` or `file`\n{way}"));
    check(
        "nats.url = \"nats://me:se/cret@host\"",
        "1:12: `nats.url` holds a user or a password, which would be printed in logs
         hint: remove the part before @; NATS has nats.user, nats.password and nats.token",
    );
    let given = good("$ STREAMGAUGE__NATS__TOKEN=hunter2").nats;
    assert!(!format!("{given:?}").contains("hunter2"));
}

#[test]
fn a_secret_is_read_when_it_is_asked_for() {
    let world = |name: &str| match name {
        "SET" => Ok("value\n".to_owned()),
        "EMPTY" => Ok("\r\n".to_owned()),
        _ => Err(env::VarError::NotPresent),
    };
    let seen =
        |secret: &Secret| secret.resolve_in(world).map(|value| value.map(|value| value.expose().to_owned())).map_err(|error| error.to_string());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("token");
    fs::write(&file, "from a file\r\n").expect("a file in it");

    assert_eq!(seen(&Secret::Env("SET".to_owned())), Ok(Some("value".to_owned())));
    assert_eq!(seen(&Secret::Env("EMPTY".to_owned())), Ok(None));
    assert_eq!(seen(&good("").slack.bot_token), Ok(None));
    assert_eq!(good("").slack.bot_token.to_string(), "environment variable `SLACK_BOT_TOKEN`");
    assert_eq!(seen(&Secret::File(file)), Ok(Some("from a file".to_owned())));
    let absent = seen(&Secret::File("/nowhere/token".into())).err().unwrap_or_default();
    assert!(absent.starts_with("read the secret in file `/nowhere/token`: "), "{absent}");
    assert!(absent.ends_with("\nhint: make the file readable for this user, or use { env = \"NAME\" }"), "{absent}");
}

#[test]
fn overrides_win_in_order_and_take_text_that_looks_like_something_else() {
    let config = good(
        "[nats]\nurl = \"nats://file\"\nstream = \"FILE\"\n[store]\nretention = \"1d\"\n[environments.Prod]\nchannel = \"#a\"
$ --set nats.url=nats://first
$ --set nats.url=nats://flag
$ --set nats.subjects=[\"a.>\"]
$ STREAMGAUGE__NATS__URL=nats://variable
$ STREAMGAUGE__NATS__STREAM=2024
$ STREAMGAUGE__NATS__TOKEN=12345
$ STREAMGAUGE__ENVIRONMENTS__PROD__NOTIFY=false
$ STREAMGAUGE_UNRELATED=1
$ --set slack.channel=#b
$ --set objectives.x={ latency = \"2s\", applies = { stage = \"extraction\" } }",
    );
    assert_eq!((config.nats.url.as_str(), config.nats.stream.as_str()), ("nats://flag", "2024"));
    assert_eq!(config.nats.subjects, ["a.>"]);
    assert_eq!(config.nats.auth, NatsAuth::Token(Secret::Given(Sensitive::new("12345"))));
    assert_eq!(config.store.retention, Duration::from_secs(86_400));
    assert_eq!(config.environments["Prod"], EnvironmentConfig { channel: Some("#a".to_owned()), notify: false });
    assert_eq!(config.slack.channel, "#b");
    assert_eq!(config.objectives["x"].latency, Duration::from_secs(2));
}

#[test]
fn errors_in_overrides_name_the_override() {
    let way = "is not an override\nhint: write --set section.key=value or STREAMGAUGE__SECTION__KEY=value";
    check(
        "[windows]\nslice = \"2s\"\n$ STREAMGAUGE__WINDOWS__LATENESS=3s\n$ --set http.listen=nowhere",
        "STREAMGAUGE__WINDOWS__LATENESS: `windows` must have a `lateness` in whole slices of 2s, not 3s\nhint: try lateness = \"12s\"
         --set http.listen: `http.listen` must be an address to listen on, not `nowhere`
         hint: an IP address and a port, such as \"127.0.0.1:8470\", \"0.0.0.0:8470\" or \"[::1]:8470\"",
    );
    check("$ --set slack.bot_token xoxb-1\n$ STREAMGAUGE__NATS____URL=x", &format!("STREAMGAUGE__NATS____URL: {way}\n--set slack.bot_token: {way}"));
}

#[test]
fn relative_paths_start_where_they_were_written() {
    let config = good(
        "[store]\npath = \"/var/lib/gauge\"\n[schemas.facts]\nfile = \"facts.json\"\n[slack]\nbot_token = { file = \"bot\" }\n$ --set nats.credentials=me.creds",
    );
    assert_eq!(config.store.path, Path::new("/var/lib/gauge"));
    assert_eq!(config.rules.path, Path::new("/etc/gauge/rules"));
    assert_eq!(config.schemas["facts"].schema, Some(SchemaText::File("/etc/gauge/facts.json".into())));
    assert_eq!(config.slack.bot_token, Secret::File("/etc/gauge/bot".into()));
    assert_eq!(config.nats.auth, NatsAuth::Credentials("me.creds".into()));
}

#[test]
fn links_follow_the_listener_until_they_are_told_otherwise() {
    assert_eq!(good("http.listen = \"0.0.0.0:80\"\naccess.open = \"read\"").http.public_url, "http://127.0.0.1:80");
    assert_eq!(good("http.listen = \"[::1]:80\"").http.public_url, "http://[::1]:80");
    assert_eq!(good("http.public_url = \"https://gauge.example/\"").http.public_url, "https://gauge.example");
}

#[test]
fn a_file_is_loaded_from_its_path() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("gauge.toml");
    let absent = Config::load(Some(&file), [], &[]).err().map(|errors| errors.to_string()).unwrap_or_default();
    assert!(absent.starts_with(&format!("{}: cannot read it: ", file.display())), "{absent}");
    fs::write(&file, "[rules]\npath = \"mine\"").expect("a file in it");
    assert_eq!(Config::load(Some(&file), [], &[]).map(|config| config.rules.path), Ok(folder.path().join("mine")));
}

#[test]
fn the_file_we_ship_holds_the_defaults() {
    let shipped = Node::parse("deploy/streamgauge.toml", EXAMPLE).and_then(|tree| Config::assemble(tree, Path::new(""), [], &[]));
    assert_eq!(shipped, Ok(Config::default()));
}

#[test]
fn the_file_we_ship_shows_every_key_with_a_value_that_is_accepted() {
    let uncommented = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => key,
        _ => line,
    });
    // Only one way of signing in at a time, one source of a judge, and one model or a panel.
    let other_ways = ["credentials", "token = { file", "folder", "panel"];
    let whole: Vec<&str> = uncommented.filter(|line| !other_ways.iter().any(|way| line.starts_with(way))).collect();
    let config = good(&whole.join("\n"));
    assert_eq!((config.environments.len(), config.schemas.len(), config.objectives.len()), (1, 2, 1));
    assert_eq!((config.judges.len(), config.prices.len(), config.webhooks.len(), config.alertmanager.urls.len()), (1, 1, 1, 1));

    let sections = [
        "nats",
        "nats.tls",
        "store",
        "rules",
        "slack",
        "webhooks.x",
        "alertmanager",
        "incidents",
        "http",
        "windows",
        "environments.x",
        "schemas.x",
        "objectives.x",
        "evaluators",
        "judges.x",
        "judges.x.spend",
        "prices.x",
        "access",
        "access.tokens.x",
        "access.proxy",
    ];
    let probe: String = sections.iter().map(|section| format!("{section}.unknown = 1\n")).collect();
    let errors = load(&probe).err().unwrap_or_else(|| panic!("unknown keys were accepted"));
    let hints = errors.as_slice().iter().filter_map(|error| error.hint.split_once("known: "));
    for key in hints.flat_map(|(_, keys)| keys.split(", ")) {
        let shown = [format!("\n{key} = "), format!("\n#{key} = "), format!(".{key}]\n"), format!(".{key}.")];
        assert!(shown.iter().any(|line| EXAMPLE.contains(line)), "{key} is not in the file we ship");
    }
}

#[test]
fn beyond_loopback_somebody_must_be_known_or_reading_open_to_all() {
    let who = "`access` must say who may look and operate: `http.listen` is 0.0.0.0:8470, which others than this machine can reach
         hint: set [access.tokens.NAME] or [access.proxy], let everyone read with access.open = \"read\", or listen on 127.0.0.1";
    let on = "[http]\nlisten = \"0.0.0.0:8470\"\n";
    let refused = load(on).expect_err("nobody is known").to_string();
    let who: Vec<_> = who.lines().map(str::trim).collect();
    assert!(refused.ends_with(&who.join("\n")), "{refused}");
    check(&format!("{on}[access]\nopen = \"read\""), "accepted");
    check(&format!("{on}[access.tokens.ci]\ntoken = {{ env = \"CI\" }}\nmay = \"read\""), "accepted");
    check(&format!("{on}[access.proxy]\ntrust = true"), "accepted");
    check("[http]\nlisten = \"[::1]:8470\"", "accepted");
    check(
        "[access]\nopen = \"operate\"\n[access.tokens.ci]\ntoken = { env = \"CI\" }\nmay = \"write\"\n[access.proxy]\nfrom = [\"proxy\"]\nuser_header = \"a b\"",
        "2:8: `access.open` must be \"read\", not \"operate\"
         hint: what changes something is open to nobody: give who may do that a token
         5:7: `access.tokens.ci.may` must be \"read\" or \"operate\", not \"write\"
         hint: who may operate may read as well
         7:9: `access.proxy.from` has no IP address in `proxy`
         hint: such as \"127.0.0.1\" or \"10.0.0.7\"
         8:15: `access.proxy.user_header` must be the name of a header, not `a b`
         hint: such as \"X-Forwarded-User\"",
    );
    check(
        "[access.tokens.ci]\nmay = \"read\"",
        "1:16: `access.tokens.ci` needs `token` and `may`\nhint: such as token = { env = \"STREAMGAUGE_TOKEN\" } and may = \"read\"",
    );
    check(
        "[access.tokens.ci]\ntoken = \"hunter2\"\nmay = \"read\"",
        "2:9: `access.tokens.ci.token` is a secret, which does not belong in the file or on the command line\nhint: write { env = \"NAME\" } or { file = \"path\" }",
    );
}

#[test]
fn who_else_hears_of_incidents_is_checked_and_no_address_of_theirs_is_repeated() {
    check("[webhooks.pager]", "1:11: `webhooks.pager` needs `url`\nhint: say where to post, such as url = \"https://hooks.example/streamgauge\"");
    let no_url = "must be an address that starts with https:// or http://\nhint: such as \"https://hooks.example/streamgauge\"";
    for wrong in ["hooks.example/T0/s3cret", "ftp://hooks.example", "https://", "https://hooks.example/a b", ""] {
        check(&format!("[webhooks.pager]\nurl = \"{wrong}\""), &format!("2:7: `webhooks.pager.url` {no_url}"));
    }
    check(
        "[webhooks.pager]\nurl = \"https://me:s3cret@hooks.example\"\nseverity = \"page\"\nsecret = \"s3cret\"\nenvironments = \"production\"",
        "2:7: `webhooks.pager.url` holds a user or a password
         hint: remove the part before @; what signs a request is read from { env = \"NAME\" } or { file = \"path\" }
         3:12: `webhooks.pager.severity` must be \"info\", \"warning\" or \"critical\", not \"page\"
         hint: incidents of this severity and above are told
         4:10: `webhooks.pager.secret` is a secret, which does not belong in the file or on the command line
         hint: write { env = \"NAME\" } or { file = \"path\" }
         5:16: `webhooks.pager.environments` must be a list, not text
         hint: write [\"one\", \"two\"]",
    );
    let config = good("[webhooks.a]\nurl = \"https://hooks.example/\"\n[alertmanager]\nurl = [\"http://a:9093/\", \"https://b/alertmanager\"]");
    assert_eq!(config.webhooks["a"].url, "https://hooks.example/", "a slash at the end is part of an address of somebody else's");
    assert_eq!(config.webhooks["a"].concern, Some(Concern { severity: model::plan::Severity::Info, environments: vec![] }));
    let quiet = good("[webhooks.a]\nurl = \"https://hooks.example/\"\nincidents = false");
    assert_eq!((&quiet.webhooks["a"].concern, quiet.for_rules().webhooks), (&None, ["a".to_owned()].into()), "for actions alone");
    assert_eq!(config.alertmanager.urls, ["http://a:9093", "https://b/alertmanager"]);
    assert_eq!(good("alertmanager.url = \"http://a\"").alertmanager.urls, ["http://a"]);
    check(
        "[alertmanager]\nurl = \"http://a:9093/api/v2/alerts\"\nuser = { env = \"U\" }\nresolve_after = \"10m\"",
        "2:7: `alertmanager.url` must be the address of Alertmanager itself
         hint: leave /api/v2/alerts out, such as \"http://127.0.0.1:9093\"
         4:17: `alertmanager.resolve_after` is out of range: 10m
         hint: from 1h to 1d",
    );
    check(
        "[alertmanager]\nuser = { env = \"U\" }",
        "2:8: `alertmanager` must sign in one way: `token`, or `user` with `password`\nhint: keep the keys of one way, and remove the others",
    );
}

#[test]
fn a_channel_that_takes_what_others_do_not_is_a_channel() {
    let slack = good("[slack]\nfallback_channel = \"#last-resort\"\ngive_up_after = \"10m\"").slack;
    assert_eq!((slack.fallback_channel.as_deref(), slack.give_up_after), (Some("#last-resort"), Duration::from_secs(600)));
    check(
        "[slack]\nfallback_channel = \"last resort\"\ngive_up_after = \"25h\"",
        "2:20: `slack.fallback_channel` must be a Slack channel, not `last resort`
         hint: \"#name\" in lower case without spaces, or a channel's id such as \"C0123ABCD\"
         3:17: `slack.give_up_after` is out of range: 1d1h
         hint: from 1m to 1d",
    );
}
