//! Incidents whose cause is known, of traffic as a memory layer has it. It knows nothing of the method that is measured.
//!
//! Runs of four steps by 2,000 users of 5 to 300 tenants, both by Zipf's law; three providers with eight models; prompt versions of steps; regions,
//! arms of experiments (half of the users are in none), services, SDKs and languages. Every value has a base rate of its own, some pairs of values have
//! one beyond that, and a run has one too, so that bad calls come in runs. Who comes differs a little between the two periods. With three in ten causes
//! everything else gets up to a third worse too, and a planted value in seven is new. A quarter of the incidents are sampled: every bad call, one good
//! call in four.
//!
//! What is planted, and how strong it is, is drawn first; then traffic is drawn until an alert would be about it, its excess being at least 20 bad calls
//! and six standard errors, of which the planted cause gives at least 60 %. So strong causes are not favoured, nor large values, unless 60 draws do not make an alert of one.

use fastrand::Rng;

pub const DIMENSIONS: [&str; 12] =
    ["user_id", "tenant", "stage", "provider", "model", "served_model", "prompt_version", "region", "arm", "service", "sdk", "language"];
const USER: usize = 0;
const TENANT: usize = 1;
const STAGE: usize = 2;
const PROVIDER: usize = 3;
const MODEL: usize = 4;
const SERVED: usize = 5;
const PROMPT: usize = 6;
const REGION: usize = 7;
const ARM: usize = 8;
const SERVICE: usize = 9;
const SDK: usize = 10;
const LANGUAGE: usize = 11;
/// Standard deviations of the logarithms of values' base rates.
const UNLIKE: [f64; 12] = [0.6, 0.4, 0.6, 0.3, 0.5, 0.1, 0.4, 0.2, 0.05, 0.3, 0.2, 0.2];

pub const STAGES: [&str; 4] = ["extraction", "retrieval", "synthesis", "orchestration"];
/// Signals of steps; the alert is about the first.
pub const SIGNALS: [&str; 4] = ["error", "invalid_json", "empty", "slow"];
const PROVIDER_OF: [u16; 8] = [0, 0, 0, 1, 1, 1, 2, 2];
const VERSIONS: u16 = 4;
const USERS: usize = 2_000;

pub type Codes = [u16; 12];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Single,
    Pair,
    Step,
    /// Nothing to name: all odds rise alike, all rates by the same, all odds about alike, other calls come.
    FleetOdds,
    FleetAdded,
    FleetUneven,
    Mix,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    Values(Vec<(usize, u16)>),
    /// Step and signal.
    Step(usize, usize),
    None,
}

pub struct Call {
    pub codes: Codes,
    pub bad: bool,
}

pub struct RunSteps {
    pub now: bool,
    /// Stage, model and signals by bit.
    pub steps: Vec<(usize, u16, u8)>,
    pub alerted: usize,
    /// Labels of the alerted step's call.
    pub codes: Codes,
}

pub struct Incident {
    pub kind: Kind,
    pub truth: Truth,
    pub now: Vec<Call>,
    pub reference: Vec<Call>,
    pub runs: Vec<RunSteps>,
    pub labels: Vec<Vec<String>>,
    /// By how much hit calls' rates rose, on average; the part of the planted calls that is hit.
    pub times: f64,
    pub partial: f64,
    /// Bad calls beyond the reference's rate.
    pub excess: f64,
    /// Whether of good calls only one in four was kept, each with a weight of 4.
    pub sampled: bool,
    /// Draws of traffic until an alert would have been, and causes given up because none would be.
    pub draws: usize,
    pub given_up: usize,
}

/// What is planted, whatever the traffic.
struct Plan {
    kind: Kind,
    dimensions: (usize, usize),
    times: f64,
    to_thirty: bool,
    partial: f64,
    by_run: bool,
    arrives: bool,
    /// By how much the odds of all calls rise beside the cause.
    beside: f64,
    sampled: bool,
}

pub const DRAWS_MAX: usize = 60;

pub fn incident(kind: Kind, rng: &mut Rng) -> Incident {
    let (mut draws, mut given_up) = (0, 0);
    loop {
        let plan = Plan {
            kind,
            dimensions: (rng.usize(..DIMENSIONS.len()), rng.usize(..DIMENSIONS.len())),
            times: log_between(rng, 2.0, 20.0),
            to_thirty: rng.u8(..4) == 0,
            partial: if rng.u8(..10) < 7 { between(rng, 0.2, 0.8) } else { 1.0 },
            by_run: rng.u8(..10) < 3,
            arrives: rng.u8(..7) == 0,
            beside: if rng.u8(..10) < 3 { between(rng, 1.0, 1.3) } else { 1.0 },
            sampled: rng.u8(..4) == 0,
        };
        for _ in 0..DRAWS_MAX {
            draws += 1;
            if let Some(incident) = draw(&plan, rng) {
                return Incident { draws, given_up, ..incident };
            }
        }
        given_up += 1;
    }
}

struct World {
    users: Vec<f64>,
    tenant_of: Vec<u16>,
    pinned: Vec<Option<u16>>,
    models: [Vec<f64>; 4],
    prompts: [Vec<f64>; 4],
    regions: Vec<u16>,
    sdks: Vec<u16>,
    services: Vec<f64>,
    arms: u16,
    languages: Vec<u16>,
    /// By dimension and value: the base rate's factor; and those of a stage with a model, and of a tenant with a prompt, beyond it.
    factors: Vec<Vec<f64>>,
    stage_model: Vec<f64>,
    tenant_prompt: Vec<f64>,
}

fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * rng.f64().max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

fn between(rng: &mut Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.f64()
}

fn log_between(rng: &mut Rng, low: f64, high: f64) -> f64 {
    between(rng, low.ln(), high.ln()).exp()
}

fn cumulative(weights: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut sum = 0.0;
    let mut sums: Vec<f64> = weights
        .into_iter()
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect();
    sums.iter_mut().for_each(|at| *at /= sum);
    sums
}

fn pick(sums: &[f64], rng: &mut Rng) -> u16 {
    let at = rng.f64();
    sums.partition_point(|&sum| sum < at).min(sums.len() - 1) as u16
}

fn few(rng: &mut Rng, values: usize) -> Vec<f64> {
    (0..values).map(|_| rng.f64().max(1e-9).ln().powi(2)).collect()
}

impl World {
    fn new(rng: &mut Rng) -> Self {
        let tenants = log_between(rng, 5.0, 300.0).round() as usize;
        let exponent = between(rng, 0.8, 1.3);
        let tenant_sums = cumulative((1..=tenants).map(|rank| (rank as f64).powf(-exponent)));
        let user_exponent = between(rng, 0.7, 1.1);
        let users: Vec<f64> = (1..=USERS).map(|rank| (rank as f64).powf(-user_exponent)).collect();
        let sizes = [USERS, tenants, 4, 3, 8, 8, 4 * usize::from(VERSIONS), 4, 5, 3, 6, 5];
        let factors = sizes.iter().zip(UNLIKE).map(|(&size, sd)| (0..size).map(|_| (sd * normal(rng)).exp()).collect()).collect();
        Self {
            tenant_of: (0..USERS).map(|_| pick(&tenant_sums, rng)).collect(),
            pinned: (0..tenants).map(|_| (rng.f64() < 0.3).then(|| rng.u16(..3))).collect(),
            models: std::array::from_fn(|_| few(rng, 8)),
            prompts: std::array::from_fn(|_| few(rng, VERSIONS as usize)),
            regions: (0..tenants).map(|_| rng.u16(..4)).collect(),
            sdks: (0..tenants).map(|_| rng.u16(..6)).collect(),
            services: few(rng, 3),
            arms: rng.u16(2..=4),
            languages: (0..USERS).map(|_| rng.u16(..5).min(rng.u16(..5))).collect(),
            users,
            factors,
            stage_model: (0..4 * 8).map(|_| (0.3 * normal(rng)).exp()).collect(),
            tenant_prompt: (0..tenants * 4 * usize::from(VERSIONS)).map(|_| (0.3 * normal(rng)).exp()).collect(),
        }
    }

    fn labels(&self) -> Vec<Vec<String>> {
        let prompts = (0..4 * VERSIONS).map(|at| format!("{}@{}", STAGES[usize::from(at / VERSIONS)], at % VERSIONS + 1)).collect();
        let numbered = |name: &str, count: usize| (0..count).map(|at| format!("{name}-{at}")).collect::<Vec<_>>();
        let tenants = self.pinned.len();
        vec![
            numbered("user", USERS),
            numbered("tenant", tenants),
            STAGES.map(str::to_owned).to_vec(),
            numbered("provider", 3),
            numbered("model", 8),
            numbered("model", 8),
            prompts,
            numbered("region", 4),
            ["", "arm-1", "arm-2", "arm-3", "arm-4"].map(str::to_owned).to_vec(),
            numbered("service", 3),
            numbered("sdk", 6),
            numbered("language", 5),
        ]
    }

    /// Calls of so many runs: labels, run, and the chance of being bad before it is scaled to a base rate. Who comes differs a little each time.
    fn calls(&self, runs: usize, rng: &mut Rng) -> Vec<(Codes, u32, f64)> {
        let mut about = |weights: &[f64], sd: f64| cumulative(weights.iter().map(|weight| weight * (sd * normal(rng)).exp()).collect::<Vec<_>>());
        let users = about(&self.users, 0.3);
        let services = about(&self.services, 0.1);
        let prompts: Vec<_> = self.prompts.iter().map(|weights| about(weights, 0.2)).collect();
        let models: Vec<_> = self.models.iter().map(|weights| about(weights, 0.1)).collect();
        let pinned: Vec<Vec<_>> = self
            .models
            .iter()
            .map(|weights| {
                (0..3)
                    .map(|provider| {
                        let of: Vec<f64> = weights.iter().zip(PROVIDER_OF).map(|(weight, of)| if of == provider { *weight } else { 0.0 }).collect();
                        about(&of, 0.1)
                    })
                    .collect()
            })
            .collect();
        let mut calls = Vec::with_capacity(runs * 4);
        for run in 0..runs {
            let user = pick(&users, rng);
            let tenant = self.tenant_of[usize::from(user)];
            let mut codes: Codes = [0; 12];
            codes[USER] = user;
            codes[TENANT] = tenant;
            codes[REGION] = if rng.f64() < 0.85 { self.regions[usize::from(tenant)] } else { rng.u16(..4) };
            codes[ARM] = if user.is_multiple_of(2) { 0 } else { 1 + user / 2 % self.arms };
            codes[SERVICE] = pick(&services, rng);
            codes[SDK] = if rng.f64() < 0.7 { self.sdks[usize::from(tenant)] } else { rng.u16(..6) };
            codes[LANGUAGE] = self.languages[usize::from(user)];
            let frailty = (0.7 * normal(rng) - 0.245).exp();
            for stage in 0..STAGES.len() {
                // One run in ten needs no retrieval.
                if stage == 1 && rng.u8(..10) == 0 {
                    continue;
                }
                let model = match self.pinned[usize::from(tenant)] {
                    Some(provider) => pick(&pinned[stage][usize::from(provider)], rng),
                    None => pick(&models[stage], rng),
                };
                codes[STAGE] = stage as u16;
                codes[MODEL] = model;
                codes[PROVIDER] = PROVIDER_OF[usize::from(model)];
                codes[SERVED] = if rng.u8(..50) == 0 { rng.u16(..8) } else { model };
                codes[PROMPT] = stage as u16 * VERSIONS + pick(&prompts[stage], rng);
                let factor: f64 = codes.iter().zip(&self.factors).map(|(&code, factors)| factors[usize::from(code)]).product();
                let together = self.stage_model[stage * 8 + usize::from(model)]
                    * self.tenant_prompt[usize::from(tenant) * 4 * usize::from(VERSIONS) + usize::from(codes[PROMPT])];
                calls.push((codes, run as u32, frailty * factor * together));
            }
        }
        calls
    }
}

fn raised(p: f64, times: f64) -> f64 {
    let odds = p / (1.0 - p) * times;
    odds / (1.0 + odds)
}

fn draw(plan: &Plan, rng: &mut Rng) -> Option<Incident> {
    let kind = plan.kind;
    let mut world = World::new(rng);
    let calls = log_between(rng, 2_000.0, 200_000.0);
    let runs = (calls / 3.9) as usize;
    let more = log_between(rng, 1.0, 5.0);
    let reference_runs = ((runs as f64 * more) as usize).min(90_000);
    let rate = log_between(rng, 0.001, 0.05);
    let mut now = world.calls(runs, rng);
    let mut mixed = None;
    if kind == Kind::Mix {
        let value = some_value(&now, plan.dimensions.0, rng, 0.01, 0.25)?;
        let (grows, bad) = (between(rng, 3.0, 10.0), between(rng, 3.0, 10.0));
        world.factors[value.0][usize::from(value.1)] *= bad;
        now.iter_mut().filter(|call| call.0[value.0] == value.1).for_each(|call| call.2 *= bad);
        mixed = Some((value, grows));
    }
    let mean: f64 = now.iter().map(|call| call.2).sum::<f64>() / now.len() as f64;
    let chance = |weight: f64| (weight * rate / mean).min(0.9);
    if let Some((value, grows)) = mixed {
        now.retain(|call| call.0[value.0] == value.1 || rng.f64() * grows < 1.0);
    }
    if kind == Kind::Step {
        let reference = world.calls(reference_runs, rng);
        return step_incident(plan, &world, &now, &reference, rate / mean, rng);
    }

    let hit_salt = rng.u64(..);
    let truth = match kind {
        Kind::Single => vec![some_value(&now, plan.dimensions.0, rng, 0.005, 0.6)?],
        Kind::Pair => some_pair(&now, plan.dimensions, rng)?,
        _ => Vec::new(),
    };
    let planted = |codes: &Codes| truth.iter().all(|&(dimension, value)| codes[dimension] == value);
    let uneven: Vec<Vec<f64>> = world.factors.iter().map(|values| values.iter().map(|_| (0.12 * normal(rng)).exp()).collect()).collect();
    let (fleet, added) = (log_between(rng, 1.5, 10.0), rate * log_between(rng, 0.5, 9.0));
    let (mut before, mut after) = (0.0, 0.0);
    let mut made: Vec<(Codes, u32, bool)> = Vec::with_capacity(now.len());
    for (codes, run, weight) in &now {
        let p = chance(*weight);
        let hit = if plan.by_run { Rng::with_seed(hit_salt ^ u64::from(*run)).f64() < plan.partial } else { rng.f64() < plan.partial };
        let p = match kind {
            Kind::Single | Kind::Pair if hit && planted(codes) => {
                let to = if plan.to_thirty { p.max(0.3) } else { raised(p, plan.times) };
                before += p;
                after += to;
                to
            }
            Kind::Single | Kind::Pair => raised(p, plan.beside),
            Kind::FleetOdds => raised(p, fleet),
            Kind::FleetAdded => (p + added).min(0.95),
            Kind::FleetUneven => raised(p, fleet * codes.iter().zip(&uneven).map(|(&code, values)| values[usize::from(code)]).product::<f64>()),
            _ => p,
        };
        made.push((*codes, *run, rng.f64() < p));
    }
    // No alert is likely, so the reference is not drawn: its noise could not make one.
    let seen = made.iter().filter(|call| call.2).count() as f64;
    let usual: f64 = now.iter().map(|call| chance(call.2)).sum();
    if kind != Kind::Mix && seen - usual < 3.0 * usual.sqrt() {
        return None;
    }
    let mut reference = world.calls(reference_runs, rng);
    if plan.arrives && kind == Kind::Single {
        reference.retain(|(codes, ..)| !planted(codes));
    }
    let reference: Vec<(Codes, u32, bool)> = reference.into_iter().map(|(codes, run, weight)| (codes, run, rng.f64() < chance(weight))).collect();
    let excess = alert(made.iter().map(|call| call.2), reference.iter().map(|call| call.2))?;
    // What is planted is what the alert is about: more of the excess than chance, other calls and all else that got worse.
    if matches!(kind, Kind::Single | Kind::Pair) && after - before < 0.6 * excess {
        return None;
    }
    let alerted = rng.usize(2..4);
    let noise: [f64; 4] = std::array::from_fn(|_| log_between(rng, 0.002, 0.2));
    let mut runs = Vec::new();
    for (calls, now) in [(&made, true), (&reference, false)] {
        for run in calls.chunk_by(|a, b| a.1 == b.1) {
            let steps: Vec<(usize, u16, u8)> = run
                .iter()
                .map(|(codes, _, bad)| {
                    let others = (1..4).filter(|&signal| rng.f64() < noise[signal]).fold(0, |bits, signal| bits | 1 << signal);
                    (usize::from(codes[STAGE]), codes[MODEL], others | u8::from(*bad))
                })
                .collect();
            if let Some(at) = steps.iter().position(|step| step.0 == alerted) {
                runs.push(RunSteps { now, steps, alerted: at, codes: run[at].0 });
            }
        }
    }
    let call = |(codes, _, bad): (Codes, u32, bool)| Call { codes, bad };
    Some(Incident {
        kind,
        truth: if truth.is_empty() { Truth::None } else { Truth::Values(truth) },
        now: made.into_iter().map(call).collect(),
        reference: reference.into_iter().map(call).collect(),
        runs,
        labels: world.labels(),
        times: if before > 0.0 { after / before } else { 1.0 },
        partial: plan.partial,
        excess,
        sampled: plan.sampled,
        draws: 0,
        given_up: 0,
    })
}

/// A value that has between these parts of the calls.
fn some_value(calls: &[(Codes, u32, f64)], dimension: usize, rng: &mut Rng, low: f64, high: f64) -> Option<(usize, u16)> {
    let mut counts = vec![0usize; USERS];
    calls.iter().for_each(|call| counts[usize::from(call.0[dimension])] += 1);
    let fits = |count: usize| (low..=high).contains(&(count as f64 / calls.len() as f64));
    let values: Vec<u16> = (u16::from(dimension == ARM)..USERS as u16).filter(|&value| fits(counts[usize::from(value)])).collect();
    (!values.is_empty()).then(|| (dimension, values[rng.usize(..values.len())]))
}

/// Two values of a call that only together are something: at most 70 % of either's calls, between 1 % and 30 % of all.
fn some_pair(calls: &[(Codes, u32, f64)], (a, b): (usize, usize), rng: &mut Rng) -> Option<Vec<(usize, u16)>> {
    let codes = calls[rng.usize(..calls.len())].0;
    if a == b || [a, b].iter().any(|&dimension| dimension == ARM && codes[dimension] == 0) {
        return None;
    }
    let (mut in_a, mut in_b, mut in_both) = (0, 0, 0);
    for (of, ..) in calls {
        let (is_a, is_b) = (of[a] == codes[a], of[b] == codes[b]);
        in_a += usize::from(is_a);
        in_b += usize::from(is_b);
        in_both += usize::from(is_a && is_b);
    }
    let share = in_both as f64 / calls.len() as f64;
    let apart = in_both as f64 <= 0.7 * in_a.min(in_b) as f64;
    ((0.01..=0.3).contains(&share) && apart).then(|| vec![(a.min(b), codes[a.min(b)]), (a.max(b), codes[a.max(b)])])
}

/// The excess, if an alert would be about it.
fn alert(now: impl Iterator<Item = bool>, reference: impl Iterator<Item = bool>) -> Option<f64> {
    let count = |of: &mut dyn Iterator<Item = bool>| of.fold((0.0, 0.0), |(all, bad), is| (all + 1.0, bad + f64::from(u8::from(is))));
    let (mut now, mut reference) = (now, reference);
    let ((n, b), (m, c)) = (count(&mut now), count(&mut reference));
    let rate = (c + 0.5) / (m + 1.0);
    let excess = b - n * rate;
    (excess >= 20.0 && excess >= 6.0 * (n * rate * (1.0 + n / m)).sqrt()).then_some(excess)
}

/// An earlier step goes wrong more often, everywhere or with one model, and what follows it suffers: steps between, the alerted one, and later ones.
/// In a third of them another earlier step goes wrong more often too, and harms nothing.
fn step_incident(
    plan: &Plan,
    world: &World,
    now: &[(Codes, u32, f64)],
    reference: &[(Codes, u32, f64)],
    scale: f64,
    rng: &mut Rng,
) -> Option<Incident> {
    let alerted = rng.usize(2..4);
    let broken = rng.usize(..alerted);
    let signal = rng.usize(1..4);
    // Signals that hold anyway; the broken one is rare, others may be common.
    let mut usual: [[f64; 4]; 4] = std::array::from_fn(|_| std::array::from_fn(|_| log_between(rng, 0.002, 0.3)));
    usual[broken][signal] = log_between(rng, 0.001, 0.03);
    let rises = log_between(rng, 0.01, 0.4);
    let decoy = (rng.u8(..3) == 0).then(|| (rng.usize(..alerted), rng.usize(1..4), rng.f64() * 0.2)).filter(|of| (of.0, of.1) != (broken, signal));
    let only: Option<u16> = (rng.u8(..3) == 0).then(|| now[rng.usize(..now.len())].0[MODEL]);
    let harm = between(rng, 0.2, 0.95);
    let passes: [f64; 4] = std::array::from_fn(|_| between(rng, 0.0, 0.9));
    let passed: [usize; 4] = std::array::from_fn(|_| rng.usize(1..4));
    let mut made = [Vec::new(), Vec::new()];
    let mut runs = Vec::new();
    let (mut before, mut after) = (0.0, 0.0);
    for (calls, is_now) in [(now, true), (reference, false)] {
        for run in calls.chunk_by(|a, b| a.1 == b.1) {
            let frail = scale * run.iter().map(|call| call.2).sum::<f64>() / run.len() as f64;
            let tendency = (frail / 0.01).sqrt().clamp(0.3, 3.0);
            let mut broke = false;
            let mut steps: Vec<(usize, u16, u8)> = Vec::with_capacity(4);
            for (codes, _, weight) in run {
                let stage = usize::from(codes[STAGE]);
                let mut bits = (1..4).filter(|&at| rng.f64() < usual[stage][at] * tendency).fold(0u8, |bits, at| bits | 1 << at);
                if stage == broken {
                    let hit = is_now && only.is_none_or(|model| codes[MODEL] == model) && rng.f64() < rises;
                    bits |= u8::from(hit) << signal;
                    broke = bits >> signal & 1 == 1;
                }
                if let Some((step, signal, more)) = decoy
                    && is_now
                    && stage == step
                {
                    bits |= u8::from(rng.f64() < more) << signal;
                }
                if broke && stage > broken && stage != alerted && rng.f64() < passes[stage] {
                    bits |= 1 << passed[stage];
                }
                let own = raised((weight * scale).min(0.5), if is_now { plan.beside } else { 1.0 });
                let bad = rng.f64() < own || (stage == alerted && broke && rng.f64() < harm);
                bits |= u8::from(bad);
                if stage == alerted && is_now {
                    before += own;
                    after += f64::from(u8::from(bad));
                }
                steps.push((stage, codes[MODEL], bits));
            }
            if let Some(at) = steps.iter().position(|step| step.0 == alerted) {
                made[usize::from(!is_now)].push(Call { codes: run[at].0, bad: steps[at].2 & 1 == 1 });
                runs.push(RunSteps { now: is_now, alerted: at, codes: run[at].0, steps });
            }
        }
    }
    let [now, reference] = made;
    let excess = alert(now.iter().map(|call| call.bad), reference.iter().map(|call| call.bad))?;
    Some(Incident {
        kind: Kind::Step,
        truth: Truth::Step(broken, signal),
        now,
        reference,
        runs,
        labels: world.labels(),
        times: after / before,
        partial: harm,
        excess,
        sampled: plan.sampled,
        draws: 0,
        given_up: 0,
    })
}
