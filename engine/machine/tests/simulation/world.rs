//! A stream of logs from a seed, with the truth about each: what the checkers may believe without asking the code under test.

use model::{Span, Timestamp};

/// One message of the stream.
#[derive(Debug)]
pub struct Entry {
    /// Grows; numbers left out are messages that had expired before anyone read them.
    pub sequence: u64,
    /// The server's; never goes back.
    pub stamp: Timestamp,
    pub payload: Vec<u8>,
    /// `None`: it is not a call.
    pub truth: Option<Truth>,
}

#[derive(Debug)]
pub struct Truth {
    pub environment: String,
    /// Stage, provider, model.
    pub labels: Vec<String>,
    /// As the sender says.
    pub time: Timestamp,
}

#[derive(Debug)]
pub struct World {
    pub entries: Vec<Entry>,
}

/// What a world is like, beside what every world has.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub logs: usize,
    /// Names that environments are drawn from, beyond the usual two.
    pub strange_environments: usize,
    /// Whether pauses of hours are common, after which groups are forgotten.
    pub long_pauses: bool,
}

const STAGES: [&str; 4] = ["extraction", "retrieval", "synthesis", "orchestration"];
const MODELS: [(&str, &str); 3] = [("openai", "gpt-4o-mini"), ("anthropic", "claude-haiku-4-5"), ("google", "gemini-flash")];

/// What goes wrong for a while, and where.
#[derive(Clone, Copy, Debug)]
struct Episode {
    trouble: Trouble,
    stage: Option<&'static str>,
    model: Option<usize>,
    share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    Calm,
    Errors,
    Fallbacks,
    BadJson,
    Slow,
    /// Far more groups than there are series for.
    ManyGroups,
    /// Only one stage still calls.
    Vanishing,
    ManyEnvironments,
}

struct Generator<'r> {
    rng: &'r mut fastrand::Rng,
    entries: Vec<Entry>,
    sequence: u64,
    stamp: Timestamp,
    size: Size,
}

impl World {
    pub fn new(rng: &mut fastrand::Rng, size: Size) -> Self {
        let start = 1_790_000_000_000 + rng.i64(0..86_400_000);
        let stamp = Timestamp::from_millis(start).expect("in range");
        let sequence = rng.u64(1..5);
        let mut generator = Generator { rng, entries: Vec::with_capacity(size.logs), sequence, stamp, size };
        while generator.entries.len() < size.logs {
            generator.episode();
        }
        generator.entries.truncate(size.logs);
        Self { entries: generator.entries }
    }
}

impl Generator<'_> {
    fn episode(&mut self) {
        let crowding = self.size.strange_environments > 0 && self.rng.u32(0..4) == 0;
        let trouble = match self.rng.u32(0..20) {
            _ if crowding => Trouble::ManyEnvironments,
            0..=6 => Trouble::Calm,
            7..=9 => Trouble::Errors,
            10..=11 => Trouble::Fallbacks,
            12..=13 => Trouble::BadJson,
            14..=15 => Trouble::Slow,
            16 => Trouble::ManyGroups,
            _ => Trouble::Vanishing,
        };
        let episode = Episode {
            trouble,
            stage: self.rng.bool().then(|| STAGES[self.rng.usize(0..STAGES.len())]),
            model: self.rng.bool().then(|| self.rng.usize(0..MODELS.len())),
            share: 0.3 + 0.7 * self.rng.f64(),
        };
        // From a trickle to a burst: mean milliseconds between logs.
        let between = [5, 50, 200, 400, 1000, 4000][self.rng.usize(0..6)];
        let calls = self.rng.usize(20..250);
        for _ in 0..calls {
            self.stamp = self.stamp + Span::from_millis(self.rng.u64(0..2 * between));
            self.log(episode);
        }
        let pause = match self.rng.u32(0..24) {
            0..=5 if self.size.long_pauses => self.rng.u64(3_600..12_000),
            0..=11 => 0,
            12..=17 => self.rng.u64(1..20),
            18..=20 => self.rng.u64(20..200),
            21 => self.rng.u64(200..3_000),
            22 => self.rng.u64(3_600..12_000),
            _ if self.rng.u32(0..10) == 0 => self.rng.u64(80_000..100_000),
            _ => 7,
        };
        self.stamp = self.stamp + Span::from_secs(pause);
    }

    fn log(&mut self, episode: Episode) {
        self.sequence += if self.rng.u32(0..100) == 0 { self.rng.u64(2..6) } else { 1 };
        let (payload, truth) = if self.rng.u32(0..60) == 0 { (self.malformed(), None) } else { self.call(episode) };
        self.entries.push(Entry { sequence: self.sequence, stamp: self.stamp, payload, truth });
    }

    fn malformed(&mut self) -> Vec<u8> {
        let broken: [&[u8]; 6] = [b"", b"{", b"[]", b"\xff\xfe", br#"{"id":"x"}"#, br#"{"id":"x","time":5,"model":"m"}"#];
        broken[self.rng.usize(0..broken.len())].to_vec()
    }

    /// When the sender says that its call ended.
    fn time(&mut self) -> Timestamp {
        let ago = |stamp: Timestamp, millis| stamp - Span::from_millis(millis);
        match self.rng.u32(0..200) {
            0..=149 => ago(self.stamp, self.rng.u64(0..1_500)),
            150..=179 => ago(self.stamp, self.rng.u64(0..15_000)),
            180..=191 => ago(self.stamp, self.rng.u64(15_000..60_000)),
            192..=193 => ago(self.stamp, self.rng.u64(60_000..20_000_000)),
            // A clock that was never set; mostly late, but the first call of an environment starts its clock there.
            195 if self.rng.bool() => Timestamp::from_millis(200_000_000_000).expect("in range"),
            194 => self.stamp + Span::from_millis(self.rng.u64(5_000..90_000)),
            _ => self.stamp + Span::from_millis(self.rng.u64(0..5_001)),
        }
    }

    fn call(&mut self, episode: Episode) -> (Vec<u8>, Option<Truth>) {
        let rng = &mut *self.rng;
        let mut environment = if rng.u32(0..5) == 0 { "test".to_owned() } else { "production".to_owned() };
        if episode.trouble == Trouble::ManyEnvironments {
            environment = format!("pull-request-{}", rng.usize(0..self.size.strange_environments));
        }
        let mut stage = STAGES[rng.usize(0..STAGES.len())].to_owned();
        let model_at = rng.usize(0..MODELS.len());
        let (provider, mut model) = (MODELS[model_at].0, MODELS[model_at].1.to_owned());
        let hit = episode.stage.is_none_or(|only| stage == only) && episode.model.is_none_or(|only| model_at == only) && rng.f64() < episode.share;
        match episode.trouble {
            Trouble::Vanishing => stage = episode.stage.unwrap_or(STAGES[0]).to_owned(),
            Trouble::ManyGroups if hit => stage = format!("generated-{}", rng.u32(0..60)),
            Trouble::ManyGroups => model = format!("fine-tune-{}", rng.u32(0..20)),
            _ => {}
        }
        let user = format!("user-{}", if rng.u32(0..3) == 0 { rng.u32(0..40) } else { rng.u32(0..4) });
        let time = self.time();
        let rng = &mut *self.rng;
        let in_trouble = |trouble| hit && episode.trouble == trouble;
        let mut latency = rng.u64(80..900);
        let mut fields = format!(
            r#""id":"c{}","time":{},"environment":"{environment}","stage":"{stage}","provider":"{provider}","model":"{model}","user_id":"{user}""#,
            self.sequence,
            time.millis()
        );
        if in_trouble(Trouble::Errors) || rng.u32(0..40) == 0 {
            fields += [r#","status_code":500"#, r#","status_code":429"#, r#","error":{"type":"timeout"}"#][rng.usize(0..3)];
        } else if in_trouble(Trouble::Fallbacks) || rng.u32(0..60) == 0 {
            fields += r#","served_by":{"provider":"somebody","model":"else"}"#;
        }
        if stage == "extraction" {
            let output = if in_trouble(Trouble::BadJson) { r#""sorry, {""# } else { r#""{\"facts\":[]}""# };
            fields += &format!(r#","response_format":"json","output":{output}"#);
        }
        if in_trouble(Trouble::Slow) {
            latency *= 20;
        }
        if rng.u32(0..10) > 0 {
            fields += &format!(r#","latency_ms":{latency},"usage":{{"input_tokens":{}}}"#, rng.u32(1..5_000));
        }
        // Neighbours in the stream share runs, which overlap; not every call of one says whose it is.
        if rng.u32(0..4) > 0 {
            fields += &format!(r#","event_id":"run-{}""#, (self.sequence - rng.u64(0..8).min(self.sequence)) / 3);
        }
        if rng.bool() {
            fields += &format!(r#","service":"service-{}""#, rng.u32(0..2));
        }
        let truth = Truth { environment, labels: vec![stage, provider.to_owned(), model], time };
        (format!("{{{fields}}}").into_bytes(), Some(truth))
    }
}
