//! A sealed slice as it is written: cells by grouping and group, self-describing, so that it is readable whatever the plan has become.
//!
//! Blocks of neighbouring slices add up to blocks of longer slices, which is how old ones are rolled up.

use model::fold::Cell;
use model::{Labels, Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceBlock {
    pub environment: String,
    pub start: Timestamp,
    pub width: Span,
    pub groupings: Vec<GroupBlock>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupBlock {
    /// [`model::plan::Grouping::identity`].
    pub identity: String,
    /// Sorted by labels.
    pub cells: Vec<(Labels, Cell)>,
}

#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    #[error("slice block has format {found}, this version reads {VERSION}")]
    Version { found: u8 },
    #[error("slice block is damaged")]
    Damaged(#[from] postcard::Error),
    #[error("slice block is empty")]
    Empty,
}

const VERSION: u8 = 2;

impl SliceBlock {
    /// One byte of format, then postcard; the same block gives the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("writing to memory does not fail")
    }

    /// # Errors
    /// When the bytes are of another format or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        match bytes.split_first() {
            None => Err(BlockError::Empty),
            Some((&VERSION, body)) => Ok(postcard::from_bytes(body)?),
            Some((&found, _)) => Err(BlockError::Version { found }),
        }
    }

    /// The sum of blocks of one environment, as one block from `start` of length `width`.
    pub fn roll_up(blocks: &[Self], start: Timestamp, width: Span) -> Self {
        let mut sums: BTreeMap<&str, BTreeMap<&Labels, Cell>> = BTreeMap::new();
        for grouping in blocks.iter().flat_map(|block| &block.groupings) {
            let cells = sums.entry(&grouping.identity).or_default();
            for (labels, cell) in &grouping.cells {
                cells.entry(labels).and_modify(|sum| sum.merge(cell)).or_insert_with(|| cell.clone());
            }
        }
        let owned = |(identity, cells): (&str, BTreeMap<&Labels, Cell>)| GroupBlock {
            identity: identity.to_owned(),
            cells: cells.into_iter().map(|(labels, cell)| (labels.clone(), cell)).collect(),
        };
        let environment = blocks.first().map(|block| block.environment.clone()).unwrap_or_default();
        Self { environment, start, width, groupings: sums.into_iter().map(owned).collect() }
    }
}
