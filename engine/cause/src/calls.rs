//! The calls of two periods, as an edge fills them in: labels by dimension, bad or not, and how many calls each stands for.
//!
//! What is added is put into one order before anything is computed from it: dimensions by name, values by text, equal calls as one cell. So the answer
//! is the same to the bit whatever order calls and dimensions came in. Deliberately absent: where calls come from, and which of them are a window's.

use std::collections::HashMap;

/// At most 32 dimensions: a dozen of a call's own and as many properties as a person would look at. Pairs cost its square.
pub const DIMENSIONS_MAX: usize = 32;
/// At most 50,000 values of a dimension: twice the engine's series. Calls of further ones have no value there, so that those cannot be named.
pub const VALUES_MAX: usize = 50_000;
/// At most 500,000 cells of a period: with 12 dimensions some 30 MB. More calls are to be sampled, and their weight says so.
pub const CELLS_MAX: usize = 500_000;

/// When a call was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// The window that drifted.
    Now,
    /// The time before it that says what is usual.
    Reference,
}

/// Calls with the same labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// Calls that were looked at, and how many of them were bad.
    pub calls: u64,
    pub bad: u64,
    /// How many calls each of them stands for: 1, or the inverse of the probability it was sampled with. Above 0, finite.
    pub weight: f64,
}

impl Cell {
    /// One call that stands for itself.
    pub fn call(bad: bool) -> Self {
        Self { calls: 1, bad: u64::from(bad), weight: 1.0 }
    }
}

/// Why calls cannot be taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallsError {
    #[error("{given} dimensions are more than {DIMENSIONS_MAX}\nhint: leave out those that nobody would act on")]
    TooManyDimensions { given: usize },
    #[error("dimension `{name}` is there twice\nhint: each dimension needs a name of its own")]
    Twice { name: String },
    #[error("a call has {given} labels and {expected} dimensions are known\nhint: give one label for each, empty where the call has none")]
    Labels { given: usize, expected: usize },
    #[error("a period has more than {CELLS_MAX} cells\nhint: sample calls, and give each the inverse of its probability as weight")]
    TooManyCells,
    #[error("weight {0} is not above 0 and finite\nhint: it is how many calls one stands for, 1 where all are given")]
    Weight(f64),
    #[error("{bad} of {calls} calls cannot be bad\nhint: `bad` counts some of `calls`")]
    Bad { bad: u64, calls: u64 },
}

/// The calls of both periods.
#[derive(Clone, Debug)]
pub struct Calls {
    dimensions: Vec<Dimension>,
    now: Vec<Cell>,
    reference: Vec<Cell>,
    /// Of each cell its codes, one for each dimension.
    now_codes: Vec<u32>,
    reference_codes: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Dimension {
    name: String,
    /// Code 0 is "no value"; looked up, never walked through.
    codes: HashMap<String, u32>,
    values: Vec<String>,
}

impl Calls {
    /// No calls yet; `dimensions` are what their labels mean, in order.
    pub fn new<'a>(dimensions: impl IntoIterator<Item = &'a str>) -> Result<Self, CallsError> {
        let dimensions: Vec<Dimension> = dimensions
            .into_iter()
            .map(|name| Dimension { name: name.to_owned(), codes: HashMap::from([(String::new(), 0)]), values: vec![String::new()] })
            .collect();
        if dimensions.len() > DIMENSIONS_MAX {
            return Err(CallsError::TooManyDimensions { given: dimensions.len() });
        }
        for (at, dimension) in dimensions.iter().enumerate() {
            if dimensions[..at].iter().any(|other| other.name == dimension.name) {
                return Err(CallsError::Twice { name: dimension.name.clone() });
            }
        }
        Ok(Self { dimensions, now: Vec::new(), reference: Vec::new(), now_codes: Vec::new(), reference_codes: Vec::new() })
    }

    /// Adds calls; `labels` are in the order of the dimensions, "" where these calls have none. A cell of no calls changes nothing.
    pub fn add(&mut self, period: Period, labels: &[&str], cell: Cell) -> Result<(), CallsError> {
        if labels.len() != self.dimensions.len() {
            return Err(CallsError::Labels { given: labels.len(), expected: self.dimensions.len() });
        }
        if !(cell.weight > 0.0 && cell.weight.is_finite()) {
            return Err(CallsError::Weight(cell.weight));
        }
        if cell.bad > cell.calls {
            return Err(CallsError::Bad { bad: cell.bad, calls: cell.calls });
        }
        if cell.calls == 0 {
            return Ok(());
        }
        let (cells, codes) = match period {
            Period::Now => (&mut self.now, &mut self.now_codes),
            Period::Reference => (&mut self.reference, &mut self.reference_codes),
        };
        if cells.len() == CELLS_MAX {
            return Err(CallsError::TooManyCells);
        }
        cells.push(cell);
        for (dimension, &label) in self.dimensions.iter_mut().zip(labels) {
            codes.push(dimension.code(label));
        }
        Ok(())
    }

    /// The same in the one order.
    pub(crate) fn table(&self) -> Table {
        let mut columns: Vec<usize> = (0..self.dimensions.len()).collect();
        columns.sort_by(|&a, &b| self.dimensions[a].name.cmp(&self.dimensions[b].name));
        let mut names = Vec::with_capacity(columns.len());
        let mut ranks = Vec::with_capacity(columns.len());
        for &column in &columns {
            let dimension = &self.dimensions[column];
            let mut order: Vec<u32> = (0..dimension.values.len() as u32).collect();
            order.sort_by(|&a, &b| dimension.values[a as usize].cmp(&dimension.values[b as usize]));
            let mut rank = vec![0u32; order.len()];
            order.iter().zip(0..).for_each(|(&code, at)| rank[code as usize] = at);
            let values = order.iter().map(|&code| dimension.values[code as usize].clone()).collect();
            names.push(Named { name: dimension.name.clone(), values });
            ranks.push(rank);
        }
        let ordered = |cells: &[Cell], codes: &[u32]| {
            let width = columns.len();
            let codes: Vec<u32> =
                codes.chunks(width.max(1)).flat_map(|row| columns.iter().zip(&ranks).map(|(&column, rank)| rank[row[column] as usize])).collect();
            Cells::ordered(cells, &codes, width)
        };
        Table { now: ordered(&self.now, &self.now_codes), reference: ordered(&self.reference, &self.reference_codes), dimensions: names }
    }
}

impl Dimension {
    fn code(&mut self, label: &str) -> u32 {
        if let Some(&code) = self.codes.get(label) {
            return code;
        }
        if self.values.len() > VALUES_MAX {
            return 0;
        }
        let code = self.values.len() as u32;
        self.values.push(label.to_owned());
        self.codes.insert(label.to_owned(), code);
        code
    }
}

/// A dimension and its values in order of their texts; value 0 is "", which is none.
#[derive(Debug)]
pub(crate) struct Named {
    pub name: String,
    pub values: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Table {
    pub dimensions: Vec<Named>,
    pub now: Cells,
    pub reference: Cells,
}

/// One period's cells, each with other labels, in columns.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    /// By dimension, then by cell.
    pub codes: Vec<Vec<u32>>,
    /// Sums of weights of calls, of bad calls, and of the squares of the bad ones'.
    pub calls: Vec<f64>,
    pub bad: Vec<f64>,
    pub squares: Vec<f64>,
}

impl Cells {
    fn ordered(cells: &[Cell], codes: &[u32], width: usize) -> Self {
        let row = |at: usize| &codes[at * width..(at + 1) * width];
        // A hash that depends on codes alone gives an order that is cheap to make; which one it is does not matter.
        let hash = |at: usize| row(at).iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &code| (hash ^ u64::from(code)).wrapping_mul(0x0100_0000_01b3));
        let mut order: Vec<(u64, u32)> = (0..cells.len()).map(|at| (hash(at), at as u32)).collect();
        order.sort_unstable_by(|&(a_hash, a), &(b_hash, b)| {
            let weights = || cells[a as usize].weight.total_cmp(&cells[b as usize].weight);
            a_hash.cmp(&b_hash).then_with(|| row(a as usize).cmp(row(b as usize))).then_with(weights)
        });
        let mut made = Self { codes: vec![Vec::new(); width], ..Self::default() };
        let mut last = None;
        let mut at = 0;
        while at < order.len() {
            // Equal cells of one weight are integers until they are all there, so that their order cannot matter.
            let first = order[at].1 as usize;
            let weight = cells[first].weight;
            let (mut calls, mut bad) = (0u64, 0u64);
            while let Some(&(_, next)) = order.get(at)
                && cells[next as usize].weight == weight
                && row(next as usize) == row(first)
            {
                calls = calls.saturating_add(cells[next as usize].calls);
                bad = bad.saturating_add(cells[next as usize].bad);
                at += 1;
            }
            if last.is_none_or(|last| row(last) != row(first)) {
                made.codes.iter_mut().zip(row(first)).for_each(|(column, &code)| column.push(code));
                made.calls.push(0.0);
                made.bad.push(0.0);
                made.squares.push(0.0);
            }
            last = Some(first);
            let end = made.calls.len() - 1;
            made.calls[end] += calls as f64 * weight;
            made.bad[end] += bad as f64 * weight;
            made.squares[end] += bad as f64 * weight * weight;
        }
        made
    }

    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// How many calls one bad call stands for, by the squares of their weights (Kish 1965); 1 without any. Dividing weights by it makes them numbers of
    /// calls that were really seen, as far as what is known of bad ones goes.
    pub fn stands_for(&self) -> f64 {
        let (bad, squares): (f64, f64) = (self.bad.iter().sum(), self.squares.iter().sum());
        if bad > 0.0 { squares / bad } else { 1.0 }
    }

    pub fn scale(&mut self, by: f64) {
        self.calls.iter_mut().for_each(|calls| *calls *= by);
        self.bad.iter_mut().for_each(|bad| *bad *= by);
        self.squares.iter_mut().for_each(|squares| *squares *= by * by);
    }
}
