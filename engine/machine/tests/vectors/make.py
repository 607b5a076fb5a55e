"""Writes the vectors beside it, from the formulas of src/drift/METHOD.md and with nothing but Python's standard library.

    python3 make.py          (some seconds; the same bytes each time)

It is a second implementation, not a translation: everything is kept in doubles, the beta-binomial is a sum of logarithms, normal scores are those of
`statistics.NormalDist`, and a baseline is worked out from the list of its hours instead of being carried along. rates.json is older than
this file and comes from the prototype that the method was chosen with.
"""

import json
import math
import os
import random
from statistics import NormalDist

HERE = os.path.dirname(os.path.abspath(__file__))
HOUR = 360
DAY = 8640
ODDS = [1.12, 1.3, 1.6, 2.2, 3.5, 6.0, 12.0, 30.0, 1 / 1.3, 1 / 1.8, 1 / 3, 1 / 8]
BAD_WHEN_UP = [0.07, 0.12, 0.18, 0.19, 0.15, 0.10, 0.06, 0.03, 0.025, 0.025, 0.025, 0.025]
FACTORS = [0.02, 0.3, 0.6, 1.6, 3.0, 10.0]


def logit(p):
    return math.log(p) - math.log1p(-p)


def expit(v):
    return 1 / (1 + math.exp(-v))


def sign(v):
    return 1.0 if v > 0 else -1.0


def write(name, **what):
    with open(os.path.join(HERE, name + ".json"), "w") as out:
        json.dump(what, out, separators=(",", ":"))
        out.write("\n")


# What everything shares: the sum over "it began at tick j", the companion CUSUM, fire, and the same test backwards.


class Test:
    """`distances`: signed, by alternative. Without idle ticks the threshold is the number of ticks between false alarms itself."""

    def __init__(self, weights, distances):
        self.weights, self.distances = weights, distances
        self.fresh()

    def fresh(self):
        many = len(self.weights)
        self.r = [0.0] * many
        self.since = [[] for _ in range(many)]  # (tick, n, x, llr) while the CUSUM is above 0
        self.m, self.threshold, self.incident = 0.0, 50.0, None

    def weigh(self, at, n, xs, llrs, ticks=DAY):
        for k, llr in enumerate(llrs):
            if llr is None:
                self.r[k], self.since[k] = 0.0, []
                continue
            self.r[k] = (1 + self.r[k]) * math.exp(llr)
            if math.fsum(one[3] for one in self.since[k]) <= 0:
                self.since[k] = []
            self.since[k].append((at, n, xs[k], llr))
        self.m = math.fsum(w * r for w, r in zip(self.weights, self.r))
        # It only rises while there is evidence.
        self.threshold = max(self.threshold, ticks)
        return self.m >= self.threshold

    def fire(self, at, phi, base=None):
        """`base`: usual log-odds; None where events are counted against their expected number."""
        s = [math.fsum(one[3] for one in since) for since in self.since]
        best = max(range(len(s)), key=lambda k: s[k])
        up = self.distances[best] > 0
        side = [k for k in range(len(s)) if (self.distances[k] > 0) == up]
        near = [self.since[k][0][0] for k in side if s[k] > 0 and s[k] >= s[best] - 2]
        mass = math.fsum(self.weights[k] * self.r[k] for k in side)
        onset = self.since[best][0][0]
        n = math.fsum(one[1] for one in self.since[best])
        # A rise is first seen by an event. Without any, t ticks at its rate are (no event then, none now)^t as likely: a half after `quiet` ticks.
        quiet = 0
        if base is not None and up:
            per_tick = n / (at - onset + 1) / phi
            no_event = lambda log_odds: math.log1p(-expit(log_odds))
            quiet = math.floor(min(DAY, math.log(2) / (per_tick * (no_event(base) - no_event(base + self.distances[best])))))
        reach = math.ceil(4 * (at - onset + 1) / s[best])
        self.incident = dict(
            alternative=best,
            up=up,
            onset=onset,
            since=max(0, onset - quiet, min(near) - reach),
            between=[max(0, min(near) - reach), min(at, max(near) + reach)],
            log_evidence=math.log(self.m),
            log_needed=math.log(self.threshold),
            distance=math.fsum(self.weights[k] * self.r[k] * self.distances[k] for k in side) / mass,
            n=n,
            x=math.fsum(one[2] for one in self.since[best]),
        )
        # Where even the farthest alternative is too near, the rate since it began speaks for itself, half an error closer.
        x, side = self.incident["x"], 1.0 if up else -1.0
        if base is None:
            seen, error = math.log((x + 0.5) / (n + 0.5)), math.sqrt(phi / (x + 0.5))
        else:
            seen, error = logit((x + 0.5) / (n + 1)) - base, math.sqrt(phi / (x + 0.5) + phi / (n - x + 0.5))
        closer = seen - side * error / 2
        if side * closer > max(side * distance for distance in self.distances):
            self.incident["distance"] = closer
        self.end, self.open, self.held = 0.0, [], []
        return dict(self.incident)

    def recover(self, n, x, llr_of, phi, offset_of):
        """`llr_of(offset)` against an incident at that distance, `offset_of(incident, phi)` its nearest believable distance. An offset is that of
        the moment the incident was last measured, with the dispersion of that tick."""
        if "offset" not in self.incident:
            raise ValueError("the offset is set where it fires")
        self.open.append((n, x))
        if len(self.open) == 60:
            if self.end <= 10:
                self.incident["n"] += math.fsum(one[0] for one in self.held)
                self.incident["x"] += math.fsum(one[1] for one in self.held)
                self.held = self.open
                self.incident["offset"] = offset_of(self.incident, phi)
            else:
                self.held = []
            self.open = []
        self.end = (1 + self.end) * math.exp(llr_of(self.incident["offset"]) / phi)
        if self.end >= DAY:
            self.fresh()
            return True
        return False


def at_least_apart(offset, side):
    return offset if side * offset >= 0.262 else side * 0.262


def rate_offset(base):
    def of(incident, phi):
        n, x, side = incident["n"], incident["x"], 1.0 if incident["up"] else -1.0
        error = math.sqrt(phi / (x + 0.5) + phi / (n - x + 0.5))
        return at_least_apart(logit((x + 0.5) / (n + 1)) - base - side * 2.5 * error, side)

    return of


def rate_recovery(base, n, x):
    def of(offset):
        p, q = expit(base), expit(base + offset)
        return x * math.log(p / q) + (n - x) * math.log((1 - p) / (1 - q))

    return of


def volume_offset(incident, phi):
    side = 1.0 if incident["up"] else -1.0
    factor = (incident["x"] + 0.5) / (incident["n"] + 0.5)
    return at_least_apart(math.log(factor) - side * 2.5 * math.sqrt(phi / (incident["x"] + 0.5)), side)


# Rates.


def rising(a, n):
    """ln of a (a+1) ... (a+n-1)."""
    return math.fsum(math.log(a + i) for i in range(int(n)))


def rate_llr(k, n, x, base, guard, rho):
    side = sign(math.log(ODDS[k]))
    over, under = base + math.log(ODDS[k]), base + side * guard
    if side * (over - under) <= 0.02:
        return None
    q, h = expit(over), expit(under)
    if rho == 0:
        return x * math.log(q / h) + (n - x) * math.log((1 - q) / (1 - h))
    c = (1 - rho) / rho
    one = lambda p: rising(p * c, x) + rising((1 - p) * c, n - x)
    return one(q) - one(h)


def binomial(rnd, n, p):
    return sum(rnd.random() < p for _ in range(n))


def resolves():
    paths = []
    # The third rises by little, so that it stays the least distance away; in the last, of which little is wrong, all at once goes wrong.
    cases = (
        (0.06, (0.2, 0.26), 11),
        (0.06, (0.012, 0.012), 12),
        (0.06, (0.085, 0.075), 23),
        (0.06, (0.1, 0.1), 35),
        (0.0005, (0.015, 0.015), 41),
        (0.0005, (0.9, 0.9), 14),
    )
    for usual, wrong_at, seed in cases:
        rnd = random.Random(seed)
        base, guard, rho, phi = logit(usual), 0.05, 0.02, 1.4
        test = Test(BAD_WHEN_UP, [math.log(o) for o in ODDS])
        ticks, trace, events = [], [], []
        for at in range(3200):
            # An incident whose size changes, so that its refined rate matters, and calls that agree with each other.
            p = wrong_at[at >= 1000] if 600 <= at < 1800 else usual
            n = rnd.randint(1, 40)
            p = rnd.betavariate(p * 49, (1 - p) * 49)
            x = binomial(rnd, n, p)
            ticks.append([n, x])
            spread = phi * (1 + (n - 1) * rho)
            if test.incident is None:
                llrs = [rate_llr(k, n, x, base, guard, rho if n > 1 else 0) for k in range(12)]
                # For a while more is asked for, which counts until evidence starts anew.
                ticks_between = 3 * DAY if 300 <= at < 400 else DAY
                if test.weigh(at, n, [x] * 12, [None if llr is None else llr / phi for llr in llrs], ticks_between):
                    events.append(["fire", at, test.fire(at, phi, base)])
                    test.incident["offset"] = rate_offset(base)(test.incident, phi)
            elif test.recover(n, x, rate_recovery(base, n, x), spread, rate_offset(base)):
                events.append(["resolve", at, {}])
            if at % 20 == 0:
                firing = test.incident is not None
                trace.append([at, test.m, [test.incident["n"], test.incident["x"]] if firing else None])
        assert [e[0] for e in events] == ["fire", "resolve"], events
        assert events[1][1] - events[0][1] > 300, events
        paths.append(dict(base=base, guard=guard, rho=rho, phi=phi, ticks=ticks, trace=trace, events=events))
    write("resolve", paths=paths)


# Distributions.

LEVELS = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]


def tilts(shares, known, errors):
    middles = [math.fsum(shares[:b]) + shares[b] / 2 for b in range(14)]
    z = [NormalDist().inv_cdf(min(max(u, 1e-6), 1 - 1e-6)) for u in middles]
    raw = []
    for d in (0.1, 0.2, 0.4, 0.8, 1.5):
        raw += [[d * s for s in z], [-d * s for s in z]]
    spread_first = len(raw)
    for k in (0.15, 0.35):
        raw += [[k * (s * s - 1) / 2 for s in z], [-k * (s * s - 1) / 2 for s in z]]
    spread_last = len(raw)
    # Tails: above the 90th, 95th and 99th percentile; below the 10th, 5th and 1st.
    for level, odds in ((0.9, 1.5), (0.9, 3), (0.95, 2), (0.95, 5), (0.99, 2.2), (0.99, 5), (0.99, 15)):
        first = LEVELS.index(level) + 1
        raw.append([math.log(odds) if b >= first else 0.0 for b in range(14)])
    for level, odds in ((0.1, 1.5), (0.1, 3), (0.05, 2), (0.05, 5), (0.01, 3), (0.01, 10)):
        last = LEVELS.index(level)
        raw.append([math.log(odds) if b <= last else 0.0 for b in range(14)])
    made = []
    for k, logs in enumerate(raw):
        whole = math.log(math.fsum(p * math.exp(v) for p, v in zip(shares, logs)))
        logs = [v - whole for v in logs]
        variance = math.fsum(p * math.expm1(v) ** 2 for p, v in zip(shares, logs))
        best = None
        for first in range(7 if spread_first <= k < spread_last else 1, 14):
            usual = math.fsum(shares[first:])
            tilted = math.fsum(p * math.exp(v) for p, v in zip(shares[first:], logs[first:]))
            if not (0 < usual < 1 and 0 < tilted < 1):
                continue
            divergence = tilted * math.log(tilted / usual) + (1 - tilted) * math.log((1 - tilted) / (1 - usual))
            if best is None or divergence > best[0]:
                best = (divergence, first, usual, logit(tilted) - logit(usual))
        made.append(dict(logs=logs, cost=math.log1p(errors * math.sqrt(variance / known)), edge=list(best[1:])))
    return made


def tilt_llr(tilt, counts):
    return math.fsum(c * v for c, v in zip(counts, tilt["logs"])) - sum(counts) * tilt["cost"]


def draw(rnd, n, shares):
    counts = [0] * 14
    for b in rnd.choices(range(14), shares, k=n):
        counts[b] += 1
    return counts


def histograms():
    nominal = [b - a for a, b in zip([0.0] + LEVELS, LEVELS + [1.0])]
    # Learned from 500 values of which many are equal: some bins are empty, and are given half a call.
    lumps = [5, 20, 25, 110, 0, 0, 90, 50, 50, 50, 50, 25, 20, 5]
    lumpy = [(c + 0.5) / (sum(lumps) + 7) for c in lumps]
    # Ends so thin that their normal scores are cut off.
    thin = [1.5e-6] + [(1 - 3e-6) / 12] * 12 + [1.5e-6]
    sets = []
    for shares, known, errors in ((nominal, 1e5, 1.0), (lumpy, 507.0, 1.0), (thin, 3e6, 0.0)):
        made = tilts(shares, known, errors)
        sets.append(dict(shares=shares, known=known, errors=errors, tilts=made))
    made, phi = sets[1]["tilts"], 1.2
    moved = [p * math.exp(0.7 * NormalDist().inv_cdf(math.fsum(lumpy[:b]) + p / 2)) for b, p in enumerate(lumpy)]
    rnd = random.Random(21)
    test = Test([1 / 27] * 27, [tilt["edge"][2] for tilt in made])
    ticks, trace, events = [], [], []
    for at in range(1500):
        counts = draw(rnd, rnd.randint(1, 9), moved if 500 <= at < 800 else lumpy)
        ticks.append(counts)
        above = [sum(counts[tilt["edge"][0] :]) for tilt in made]
        n = sum(counts)
        if test.incident is None:
            if test.weigh(at, n, above, [tilt_llr(tilt, counts) / phi for tilt in made]):
                best = max(range(27), key=lambda k: math.fsum(one[3] for one in test.since[k]))
                base = logit(made[best]["edge"][1])
                events.append(["fire", at, test.fire(at, phi, base)])
                test.incident["offset"] = rate_offset(base)(test.incident, phi)
        else:
            x = above[test.incident["alternative"]]
            if test.recover(n, x, rate_recovery(base, n, x), phi, rate_offset(base)):
                events.append(["resolve", at, {}])
        if at % 20 == 0:
            trace.append([at, test.m, test.incident is not None])
    assert [e[0] for e in events] == ["fire", "resolve"], events
    write("histograms", sets=sets, path=dict(set=1, phi=phi, ticks=ticks, trace=trace, events=events))


# Volumes.


def volume_llr(k, x, expected, shape, guard):
    change = math.log(FACTORS[k])
    edge = sign(change) * guard
    if sign(change) * (change - edge) <= 0.02:
        return None
    return count_llr(x, expected * FACTORS[k], expected * math.exp(edge), shape)


def count_llr(x, mean, null, shape):
    if shape is None:
        return x * (math.log(mean) - math.log(null)) - mean + null
    density = lambda m: x * math.log(m / (m + shape)) + shape * math.log(shape / (m + shape))
    return density(mean) - density(null)


def poisson(rnd, mean):
    if mean > 500:
        return round(rnd.gauss(mean, math.sqrt(mean)))
    left, count = math.exp(-mean), 0
    u = rnd.random()
    while u > left:
        u *= rnd.random()
        count += 1
    return count


def volumes():
    grid = []
    for shape in (None, 6.5):
        for guard in (0.0, 0.08, 0.48, 3.0):
            for expected in (0.02, 3.7, 41.0):
                for x in (0, 1, 17, 300):
                    grid.append([shape, guard, expected, x, [volume_llr(k, x, expected, shape, guard) for k in range(6)]])
    paths = []
    for shape, guard, phi, factor, seed in ((None, 0.06, 1.0, 0.25, 31), (6.5, 0.1, 1.3, 2.6, 32), (None, 0.03, 1.0, 1.5, 33)):
        rnd = random.Random(seed)
        test = Test([1 / 6] * 6, [math.log(f) for f in FACTORS])
        ticks, trace, events = [], [], []
        for at in range(1600):
            expected = 3.0 + 2.0 * math.sin(at / 90)
            mean = expected * (factor if 500 <= at < 900 else 1.0)
            x = poisson(rnd, mean if shape is None else rnd.gammavariate(shape, mean / shape))
            ticks.append([expected, x])
            if test.incident is None:
                llrs = [volume_llr(k, x, expected, shape, guard) for k in range(6)]
                if test.weigh(at, expected, [x] * 6, [None if llr is None else llr / phi for llr in llrs]):
                    events.append(["fire", at, test.fire(at, phi)])
                    test.incident["offset"] = volume_offset(test.incident, phi)
            else:
                llr_of = lambda offset: count_llr(x, expected, expected * math.exp(offset), shape)
                if test.recover(expected, x, llr_of, phi, volume_offset):
                    events.append(["resolve", at, {}])
            if at % 20 == 0:
                trace.append([at, test.m, [test.incident["n"], test.incident["x"]] if test.incident else None])
        assert [e[0] for e in events] == ["fire", "resolve"], events
        paths.append(dict(shape=shape, guard=guard, phi=phi, ticks=ticks, trace=trace, events=events))
    write("volumes", grid=grid, paths=paths)


# Weighted scores.


def bets():
    rnd = random.Random(41)
    sets = []
    # Equal weights; a small stratum drawn more often; weights so unequal that stakes are cut; a rare mean.
    for mean, weights, variance in ((0.05, [1.0], 0.0475), (0.05, [0.45, 1.3], 0.06), (0.4, [0.1, 9.0], 0.3), (0.002, [0.8, 1.2], 0.0021)):
        most = max(weights)
        stakes = []
        for odds in ODDS:
            gap = expit(logit(mean) + math.log(odds)) - mean
            stake = gap / (variance + abs(gap) * most * (1 - mean) / 2)
            # No score may take more than nine tenths: 1 + stake · weight · (score - mean) >= 1/10 for the scores 0 and 1.
            stakes.append(max(min(stake, 0.9 / (most * mean)), -0.9 / (most * (1 - mean))))
        ticks = []
        for scores in (0, 1, 7, 40):
            drawn = [[rnd.choice(weights), rnd.choice([0.0, 1.0, round(rnd.random(), 3)])] for _ in range(scores)]
            ticks.append(dict(scores=drawn, evidence=[math.fsum(math.log1p(s * w * (y - mean)) for w, y in drawn) for s in stakes]))
        sets.append(dict(mean=mean, weight_max=most, variance=variance, stakes=stakes, ticks=ticks))
    write("bets", sets=sets)


# Seasons and baselines.


def spread(counts, freedom, prior):
    """Variance of the logs of true levels among (count, expectation): method of moments and one standard error, weighed against the prior."""
    counts = [(x, e) for x, e in counts if e > 0]
    expected = math.fsum(e for _, e in counts)
    if freedom < 1 or expected <= 0:
        return prior**2
    chi = math.fsum((x - e) ** 2 / e for x, e in counts)
    error = math.sqrt(2 * freedom) / expected
    moment = max(0.0, (chi - freedom) / expected + error)
    precision, mine = 1 / error**2, 1 / prior**4
    return min(max((mine * prior**2 + precision * moment) / (mine + precision), 1e-4), 1.0)


# Of hours of the day, days of the week, and the same hour of different days: of a rate without a parent, of one against its parent's, of traffic.
RATE, CHILD, TRAFFIC = (0.6, 0.35, 0.2), (0.3, 0.175, 0.1), (0.6, 0.5, 0.5)


def season_of(hours, priors=RATE):
    """Curve and error of each hour of the week, and what of it is owed to each hour of the day not having been seen, from a list of (hour since the
    epoch, events, expected at the level)."""
    week = max((h // 168 for h, _, _ in hours), default=0)
    x, e = [0.0] * 168, [0.0] * 168
    for h, events, expected in hours:
        kept = 0.5 ** ((week - h // 168) / 4)
        x[h % 168] += kept * events
        e[h % 168] += kept * expected
    level = sum(x) / sum(e) if sum(x) > 0 and sum(e) > 0 else 1.0
    hour_of, day_of = [1.0] * 24, [1.0] * 7
    for _ in range(3):
        # Of each hour of the day over its days, and then of each day over its hours.
        hours_now = [(sum(x[h::24]), level * math.fsum(e[h + 24 * d] * day_of[d] for d in range(7))) for h in range(24)]
        hour_of, hour_variance, hour_told = drawn(hours_now, 22, priors[0])
        days_now = [(sum(x[24 * d : 24 * d + 24]), level * math.fsum(e[h + 24 * d] * hour_of[h] for h in range(24))) for d in range(7)]
        day_of, day_variance, _ = drawn(days_now, 7, priors[1])
    rest, rest_variance, told = drawn([(x[h], e[h] * level * hour_of[h % 24] * day_of[h // 24]) for h in range(168)], 154, priors[2])
    curve = [math.log(rest[h]) + math.log(hour_of[h % 24]) + math.log(day_of[h // 24]) for h in range(168)]
    variance = [rest_variance[h] + told[h] * (hour_variance[h % 24] + day_variance[h // 24]) for h in range(168)]
    unseen = [hour_variance[h] * hour_told[h] for h in range(24)]
    return curve, variance, unseen


def drawn(counts, enough, prior):
    """Factors drawn to 1 by as much as counts are seen to differ, the variance of their logs, and how much of each is still the 1."""
    seen = sum(e > 0 for _, e in counts)
    between = spread(counts, seen - 1, prior)
    strength = 1 / (between if seen >= enough else max(between, prior**2))
    return (
        [(x + strength) / (e + strength) for x, e in counts],
        [1 / (x + strength) for x, _ in counts],
        [strength / (x + strength) for x, _ in counts],
    )


def season_at(season, hours):
    curve, variance, unseen = season
    before = math.floor(hours - 0.5)
    share = hours - 0.5 - before
    i, j = before % 168, (before + 1) % 168
    return (1 - share) * curve[i] + share * curve[j], max(variance[i], variance[j]), min(unseen[i % 24], unseen[j % 24])


def seasons():
    sets = []
    first = 168 * 2900 + 37
    # Of which the last two differ by less than may be believed, and by more.
    worlds = (40.0, 0.7, 168 * 5, 51), (3.0, 0.0, 168 * 3, 52), (200.0, 0.4, 20, 53), (12.0, 0.9, 60, 54), (5e5, 0.0, 400, 55), (50.0, 3.0, 200, 56)
    worlds = [(*world, 0) for world in worlds] + [(9.0, 0.3, 168 * 2, 57, 1), (300.0, 0.9, 168 * 2, 58, 2)]
    for rate, swing, hours, seed, kind in worlds:
        priors = (RATE, CHILD, TRAFFIC)[kind]
        rnd = random.Random(seed)
        added, checks = [], []
        for h in range(first, first + hours):
            if rnd.random() < 0.05:
                continue  # an hour around an incident, or without calls
            expected = rate * (0.5 + rnd.random())
            weekend = -0.5 * swing if h % 168 // 24 in (2, 3) else 0.0
            added.append([h, poisson(rnd, expected * math.exp(swing * math.sin(2 * math.pi * h / 24) + weekend)), expected])
            if len(added) in (1, 17, 30, 100) or len(added) % 150 == 0 or h == first + hours - 1:
                season = season_of(added, priors)
                for at in (0.0, 0.5, 7.3, 29.75, 90.01, 167.9):
                    checks.append([len(added), h + at, *season_at(season, h + at)])
        sets.append(dict(kind=kind, added=added, checks=checks))
    write("season", sets=sets)


def path_of(rnd, first, days, silent, alarms, rate, swing):
    """Ticks of some hours: (tick, trials, events, an alarm stands before it, one begins after it)."""
    ticks, standing = [], False
    for h in range(first, first + 24 * days):
        if h in silent:
            continue
        for at in sorted(rnd.sample(range(h * HOUR, (h + 1) * HOUR), 6)):
            n = rnd.randint(1, 60)
            x = binomial(rnd, n, rate * math.exp(swing * math.sin(2 * math.pi * h / 24)))
            stood = standing and any(a < at <= b for a, b in alarms)
            standing = any(a <= at < b for a, b in alarms)
            ticks.append((at, n, x, stood, standing and not stood))
    return ticks


def baselines():
    """A baseline is worked out anew from the hours that were let in, and which those are is known from the alarms alone."""
    first = 168 * 2900
    paths = []
    # The last two: the variance of the seasons above, and what of it is owed to an hour of the day not seen.
    for parent, strength, seasonal, rate, days, seed, above, unseen in (
        (0, 0.5, 0, 0.08, 3, 73, 0.0, 0.0),
        (0, 0.5, 0, 0.002, 3, 66, 0.0, 0.0),  # learns by trials, for hours
        (1, 12.5, 0, 0.08, 9, 62, 0.3, 0.11),
        (0, 0.5, 1, 0.08, 16, 63, 0.0, 0.0),
        (1, 80.0, 1, 0.08, 8, 64, 0.04, 0.0),
        (2, 12.5, 1, 0.08, 3, 65, 0.5, 0.3),
        (0, 0.5, 1, 0.08, 4, 67, 0.0, 0.0),  # learns for a day
    ):
        priors, whole_day = (CHILD if parent else RATE), seed == 67
        rnd = random.Random(seed)
        # While it is young (but not while it learns), within an hour, over hours, over the end of an hour, and before a silence.
        young = () if rate < 0.01 or whole_day else ((0, 50, 1, 25),)
        times = (*young, *(() if whole_day else ((20, 10, 20, 55),)), (45, 58, 48, 5), (56, 30, 57, 20), (65, 5, 65, 40))
        alarms = [(first + h1 + m1 / 60, first + h2 + m2 / 60) for h1, m1, h2, m2 in times]
        alarms = [(int(a * HOUR), int(b * HOUR)) for a, b in alarms]
        silent = set(range(first + 31, first + 35)) | {first + 40, first + 58, first + 66}
        ticks = path_of(rnd, first, days, silent, alarms, rate, 0.6 if seasonal else 0.0)
        # 2: its parent is still learning, until into the fourth hour.
        known_from = ticks[20][0] if parent == 2 else 0
        reference = lambda at: math.log(0.05 + 0.02 * math.sin(at / 4000)) if parent and at >= known_from else None
        hours = sorted({at // HOUR for at, *_ in ticks})
        young = lambda h: h < hours[0] + 2
        first_of = {h: next(one for one in ticks if one[0] // HOUR == h) for h in hours}
        # An hour is spoiled by an alarm that stands at its first tick, or begins later in it.
        begun = lambda h, until: any(began for at, _, _, _, began in ticks if at // HOUR == h and at < until)
        spoiled = lambda h, until: first_of[h][3] or begun(h, until)
        tainted = {h: spoiled(h, math.inf) for h in hours}
        assert any(tainted.values())
        # The hour in which an hour is let in: when the next one ended well, too, or at once when silence follows. The first two never are.
        lets_in = {}
        for i, h in enumerate(hours[:-1]):
            alone = hours[i + 1] - h > 1
            if young(h) or tainted[h] or (not alone and (tainted[hours[i + 1]] or i + 2 == len(hours))):
                continue
            lets_in.setdefault(hours[i + 1] if alone else hours[i + 2], []).append(h)
        # What a person declared normal in a calm hour: events, and how many were expected.
        adopts = {next(i for i, one in enumerate(ticks) if one[0] // HOUR == first + 25) + 3: (31.0, 20.0)} if seed in (63, 64) else {}
        # seen: by hour, (events, expected by reference and season, expected by reference and level, variance but for the season) of its ticks.
        own, learning, seen = None, [], {}
        known, shape_of, curve, written, checks = [], [], season_of([], priors), [], []  # known: (hour it counts from, events, expected)
        for i, (at, n, x, stood, began) in enumerate(ticks):
            h = at // HOUR
            written.append([at, n, x, int(stood), int(began), reference(at)])
            if first_of[h][0] == at:
                for g in lets_in.get(h, []):
                    if seen.get(g):
                        events, by_season, flat = (math.fsum(one[c] for one in seen[g]) for c in range(3))
                        weight = 1 / (1 + flat * seen[g][-1][3])
                        known.append((h, events, by_season))
                        shape_of.append((g, events * weight, flat * weight))
                curve = season_of(shape_of, priors)
            if parent and reference(at) is None:
                checks.append([i, None])
                continue
            if not parent and own is None:
                learning.append((h, x, n))
                xs, ns = (math.fsum(0.5 ** ((h - one[0]) / 168) * one[c] for one in learning) for c in (1, 2))
                if (xs >= 20 and h - hours[0] >= 24) if whole_day else (xs >= 5 or ns >= 1000):
                    own = math.log((xs + 0.5) / (ns + 1))
                    # What it learned from counts at once; of the season its whole hours tell.
                    known = [(h, xs, ns * math.exp(own))]
                    for g in sorted({one[0] for one in learning} - {h}):
                        events, trials = (sum(one[c] for one in learning if one[0] == g) for c in (1, 2))
                        shape_of.append((g, events, trials * math.exp(own)))
                    curve = season_of(shape_of, priors)
                checks.append([i, None])
                continue
            counted = [math.fsum(0.5 ** ((h - one[0]) / 168) * one[c] for one in known) for c in (1, 2)]
            log, unsure = (reference(at), 0.003) if parent else (own, 0.0)
            shape, variance, _ = season_at(curve, at / HOUR) if seasonal else (0.0, 0.0, 0.0)
            level = math.log((counted[0] + strength) / (counted[1] + strength))
            unsure = 1 / (counted[0] + strength) + unsure * strength / (counted[0] + strength)
            if i % 7 == 0 or i < 40:
                checks.append([i, [log + level + shape, unsure + variance + unseen]])
            # An hour tells of its own season what is not owed to the seasons above.
            seen.setdefault(h, []).append((x, n * math.exp(log + shape), n * math.exp(log + level), unsure + above))
            if not parent and young(h) and not spoiled(h, at):
                # A root is told by its first two hours as they come.
                known.append((h, *seen[h][-1][:2]))
            if i in adopts:
                events, mean = adopts[i]
                after = (counted[0] + strength) / (counted[1] + strength)
                known, seen = [(h, events, mean / after)], {}
        adopts = [[i, *what] for i, what in adopts.items()]
        told = dict(reference_variance=0.003, reference_season=above, reference_unseen=unseen, whole_day=int(whole_day))
        paths.append(dict(parent=parent, strength=strength, seasonal=seasonal, **told, ticks=written, adopts=adopts, checks=checks))
    write("baseline", paths=paths)


# Dispersion.


def measured(hours, begun, open_rows, now):
    """Correlation, dispersion and inflation at hour `now`. `hours`: what is over, as (hour it counts from, rows), half after a week. A row is a
    tick's (block, residual, variance, pairs, standard error of the mean). `begun`: (hour, [(block, residual, variance)]) of what a range was learned
    from."""
    kept = lambda h: 0.5 ** ((now - h) / 168)
    column = lambda rows, c: math.fsum(row[c] for row in rows)
    total = lambda of: math.fsum(kept(h) * of(rows) for h, rows in hours)
    squares = lambda rows: math.fsum(row[1] ** 2 for row in rows)
    blocks_of = lambda rows: [[row for row in rows if row[0] == block] for block in sorted({row[0] for row in rows})]
    # Of a square, the part that is not owed to an unknown mean, whose errors all lean to one side.
    squared = lambda rows: column(rows, 1) ** 2 * column(rows, 2) / (column(rows, 2) + column(rows, 4) ** 2)
    variance, pairs, tick, ticks = total(lambda r: column(r, 2)), total(lambda r: column(r, 3)), total(squares), total(len)
    short, long, count = total(lambda r: math.fsum(map(squared, blocks_of(r)))), total(squared), total(lambda _: 1)
    if begun:
        h, rows = begun
        by_hour = {}
        for block, residual, _ in rows:
            by_hour[block // 6] = by_hour.get(block // 6, 0.0) + residual
        v = column(rows, 2)
        free = lambda squares: math.fsum(squares) * len(squares) / (len(squares) - 1) if len(squares) > 1 else v
        variance, tick, ticks = variance + kept(h) * v, tick + kept(h) * v, ticks + kept(h) * 60 * len(rows)
        short += kept(h) * free([row[1] ** 2 for row in rows])
        long += kept(h) * free([r * r for r in by_hour.values()])
        count += kept(h) * len(rows) / 6
    over, inflated = variance, max(1.0, tick / variance) if variance else 1.0
    if ticks < HOUR:
        # Young: the open hour counts, too.
        variance, pairs = variance + column(open_rows, 2), pairs + column(open_rows, 3)
        tick, ticks = tick + squares(open_rows), ticks + len(open_rows)

    def believed(squares, variance, blocks):
        if variance == 0:
            return 1.0
        ratio = squares / variance
        return ratio if ratio - 1 > 2.5 * math.sqrt((2 + blocks / variance) / blocks) else 1.0

    others = pairs / variance if variance else 0.0
    rho = min(0.9, (believed(tick, variance, ticks) - 1) / max(1.0, others))
    # Long blocks are compared with what their ticks have by themselves.
    within = over * (1 + others * rho)
    phi = max(believed(short, within, 6 * count), believed(long, within, count))
    phi = 1.25 * phi if phi > 1 else 1.0
    return (rho, phi, phi * (1 + others * rho)), inflated


def dispersions():
    paths = []
    # Correlation, waves, whether it begins with blocks, how uncertain the mean is, and how far it is off, the share of ticks of which all fail.
    worlds = (
        (0.0, 0.0, False, 0.0, 0.0, 0.0, 71),
        (0.05, 0.0, False, 0.05, 0.0, 0.0, 72),
        (0.02, 0.5, False, 0.1, 0.0, 0.0, 73),
        (0.0, 0.6, True, 0.0, 0.0, 0.0, 74),
        (0.0, 0.0, True, 0.3, 0.2, 0.0, 75),
        (0.0, 0.0, False, 0.2, 0.5, 0.0, 76),
        (0.03, 0.0, False, 0.4, 0.0, 0.01, 77),
    )
    for rho, waves, begins, unsure, off, outliers, seed in worlds:
        rnd = random.Random(seed)
        first, p, wave, per_hour, begun, hours = 3000, 0.1, 0.0, [], None, []
        if begins:
            blocks = []
            for block in range(first * 6 - 8, first * 6):
                n = rnd.randint(60, 200)
                blocks.append([block, binomial(rnd, n, p * math.exp(rnd.gauss(0, waves))) - n * p, n * p * (1 - p)])
            begun = (first, blocks)
        heard = [h for h in range(first, first + 36) if rnd.random() > 0.15 or h == first]
        for h, after in zip(heard, heard[1:]):
            rows, counted, checks = [], [], []
            _, known = measured(hours, begun, [], h)
            for at in sorted(rnd.sample(range(h * HOUR, (h + 1) * HOUR), 40)):
                wave = 0.97 * wave + waves * math.sqrt(1 - 0.97**2) * rnd.gauss(0, 1)
                n, rate = rnd.randint(1, 25), min(0.9, p * math.exp(wave + off))
                rate = rnd.betavariate(rate * (1 - rho) / rho, (1 - rate) * (1 - rho) / rho) if rho else rate
                x = n if rnd.random() < outliers else binomial(rnd, n, rate)
                v, error = n * p * (1 - p), n * p * unsure
                rows.append([at, x - n * p, v, v * (n - 1), error])
                # No tick is further off than six standard errors and four calls.
                most = 6 * math.sqrt(v * known + error * error) + 4
                counted.append((at // 60, max(-most, min(most, x - n * p)), *rows[-1][2:]))
                if len(rows) in (3, 25):
                    checks.append([len(rows), *measured(hours, begun, counted, h)[0]])
            # It counts from when it closes: at the next tick, which may be hours later.
            hours.append((after, counted))
            per_hour.append(dict(rows=rows, checks=checks, passed=after - h, excess=measured(hours, begun, [], after)[0]))
        paths.append(dict(begun=begun[1] if begun else None, hours=per_hour))
    write("dispersion", paths=paths)


if __name__ == "__main__":
    dispersions()
    resolves()
    histograms()
    volumes()
    bets()
    seasons()
    baselines()
