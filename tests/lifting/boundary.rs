//! The same properties through the boundary of Wasm: the outcome of the guest is a copy of words in the message, so that the host
//! lifts arbitrary addresses, lengths and bytes. The test computes the expected outcome from the canonical ABI with its own code:
//! a list or string is an address and a length, within memory and aligned like its elements.
//!
//! If an outcome points beyond the bytes of the message, into memory that the test does not know, any fate of the message is
//! accepted.

use std::cell::RefCell;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use weir_core::column::Column;
use weir_core::counts::Counts;
use weir_core::pipeline::{Outcome, Pipeline};
use weir_core::record::{Batch, Rejection, Step};
use weir_wasm::{Instance, Limits};

use super::{Piece, cases, matches, promises, sound, words};
use crate::guest::Guest;

/// Decodes the text of `x` to `$scratch`: two letters from `a` to `p` stand for a byte. The outcome is at the address in its
/// first word. The guest takes one row at a time, because an outcome of two rows would have no meaning.
const GUEST: &str = "
    (func $on_batch
        (local $from i32) (local $end i32) (local $to i32)
        (if (i32.ne (global.get $rows) (i32.const 1)) (then (unreachable)))
        (if (i32.ne (call $kind (i32.const 0)) (i32.const 4)) (then (return)))
        (local.set $from (i32.load offset=16 (global.get $reads)))
        (local.set $end (i32.add (local.get $from) (i32.load offset=20 (global.get $reads))))
        (local.set $to (global.get $scratch))
        (loop $next
            (if (i32.lt_u (local.get $from) (local.get $end))
                (then
                    (i32.store8 (local.get $to)
                        (i32.or
                            (i32.shl (i32.sub (i32.load8_u (local.get $from)) (i32.const 97)) (i32.const 4))
                            (i32.sub (i32.load8_u offset=1 (local.get $from)) (i32.const 97))))
                    (local.set $from (i32.add (local.get $from) (i32.const 2)))
                    (local.set $to (i32.add (local.get $to) (i32.const 1)))
                    (br $next))))
        (global.set $outcome (i32.load (global.get $scratch))))";
/// The address of `$scratch` in the guest.
const SCRATCH: u32 = 24_576;

const LIMITS: Limits = Limits {
    memory: 4 << 20,
    tables: 20_000,
    instances: 10,
    stack: 512 << 10,
    result: 64 << 20,
    deadline: Duration::from_secs(1),
};

/// The reason why an image has no outcome.
enum Doubt {
    /// The image breaks the canonical ABI.
    Broken,
    /// The outcome depends on memory outside the image.
    Unknown,
}

/// The bytes of memory from [`SCRATCH`] on. The first four are the address of an outcome.
struct Image<'a>(&'a [u8]);

impl<'a> Image<'a> {
    fn bytes(&self, address: u32, count: u32, size: u32, align: u32) -> Result<&'a [u8], Doubt> {
        let length = u64::from(count) * u64::from(size);
        if !address.is_multiple_of(align) || u64::from(address) + length > LIMITS.memory as u64 {
            return Err(Doubt::Broken);
        }
        let inside = address.checked_sub(SCRATCH).and_then(|from| self.0.get(from as usize..)?.get(..length as usize));
        inside.ok_or(Doubt::Unknown)
    }

    fn words<const N: usize>(&self, address: u32) -> Result<[u32; N], Doubt> {
        let bytes = self.bytes(address, N as u32, 4, 4)?;
        Ok(std::array::from_fn(|index| word(bytes, index)))
    }

    fn outcome(&self) -> Result<Outcome, Doubt> {
        let [rejections, rejected, columns, written] = self.words(word(self.0, 0))?;
        self.bytes(rejections, rejected, 20, 4)?;
        self.bytes(columns, written, 24, 4)?;
        let rejections = (0..rejected).map(|index| self.rejection(rejections + index * 20)).collect::<Result<_, _>>()?;
        let columns = (0..written).map(|index| self.column(columns + index * 24)).collect::<Result<_, _>>()?;
        Ok(Outcome { rejections, columns })
    }

    fn rejection(&self, address: u32) -> Result<(u32, u32, Option<String>), Doubt> {
        let [row, reason, some, text, length] = self.words(address)?;
        let detail = match some as u8 {
            0 => None,
            1 => Some(String::from_utf8(self.bytes(text, length, 1, 1)?.to_vec()).map_err(|_| Doubt::Broken)?),
            _ => return Err(Doubt::Broken),
        };
        Ok((row, reason, detail))
    }

    fn column(&self, address: u32) -> Result<Column, Doubt> {
        let [kinds, rows, ends, ended, bytes, length] = self.words(address)?;
        let ends = self.bytes(ends, ended, 4, 4)?;
        Ok(Column {
            kinds: self.bytes(kinds, rows, 1, 1)?.to_vec(),
            ends: (0..ended as usize).map(|index| word(ends, index)).collect(),
            bytes: self.bytes(bytes, length, 1, 1)?.to_vec(),
        })
    }
}

fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes[index * 4..][..4].try_into().unwrap())
}

/// Returns a valid outcome as a guest would lay it out in memory.
fn image(outcome: &Outcome) -> Vec<u8> {
    const OUTCOME: u32 = SCRATCH + 4;
    const COLUMN: u32 = OUTCOME + 16;
    const REJECTION: u32 = COLUMN + 24;
    const ENDS: u32 = REJECTION + 20;
    const KINDS: u32 = ENDS + 4;
    const BYTES: u32 = KINDS + 4;
    let column = &outcome.columns[0];
    let (row, reason, detail) = outcome.rejections.first().cloned().unwrap_or_default();
    let length = column.bytes.len() as u32;
    let text = detail.as_deref().unwrap_or_default();
    let words = [
        [OUTCOME].as_slice(),
        &[REJECTION, outcome.rejections.len() as u32, COLUMN, 1],
        &[KINDS, 1, ENDS, 1, BYTES, length],
        &[row, reason, u32::from(detail.is_some()), BYTES + length, text.len() as u32],
        &[length, u32::from(column.kinds[0])],
    ];
    let mut image: Vec<u8> = words.concat().iter().flat_map(|word| word.to_le_bytes()).collect();
    image.extend(&column.bytes);
    image.extend(text.bytes());
    image
}

/// Valid images, and images in which a few words or bytes are changed.
fn images() -> impl Strategy<Value = Vec<u8>> {
    let address = prop_oneof![words(), SCRATCH..SCRATCH + 120, select(vec![131_072, (4 << 20) - 4, 4 << 20])];
    let changes = prop::collection::vec((0..18_usize, address), 0..3);
    let bytes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2);
    (sound(), changes, bytes).prop_map(|(outcome, changes, bytes)| {
        let mut image = image(&outcome);
        changes.iter().for_each(|(index, word)| image[index * 4..][..4].copy_from_slice(&word.to_le_bytes()));
        bytes.iter().for_each(|(index, byte)| *index.get_mut(&mut image) = *byte);
        image
    })
}

/// Lets the guest answer with each image, between rows that must pass unchanged.
fn compare(pipeline: &mut Pipeline<Instance>, images: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let mut batch = Batch::new("user-login");
    for image in images {
        let letters: String = image.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|half| char::from(b'a' + half)).collect();
        batch.push(0, 0, None, None, Some(format!("{{\"x\":\"{letters}\"}}").as_bytes()));
        batch.push(0, 0, None, None, Some(b"{\"x\":1}"));
    }
    let mut step = Step::default();
    pipeline.process(&Counts::new(60_000, false), &batch, &mut step);
    prop_assert_eq!(step.outputs.len() + step.rejections.len(), batch.len());
    for (record, image) in (0u32..).step_by(2).zip(images) {
        let value = |record| step.outputs.iter().find(|output| output.record == record).map(|output| step.value(output, &batch));
        prop_assert_eq!(value(record + 1), batch.value(record as usize + 1), "a neighbour is untouched");
        let rejection = step.rejections.iter().find(|rejection| rejection.record == record);
        prop_assert!(value(record).is_none_or(|value| serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok()));
        match Image(image).outcome() {
            Ok(outcome) if !promises::kept(&outcome, 1, 1, 1) => {
                prop_assert!(rejection.is_some_and(Rejection::is_fault), "{:?}", rejection);
            }
            Ok(Outcome { rejections, .. }) if !rejections.is_empty() => {
                prop_assert!(rejection.is_some_and(Rejection::is_decision), "{:?}", rejection);
            }
            Ok(Outcome { columns, .. }) => {
                let message = batch.value(record as usize).unwrap();
                let mut pieces = vec![Piece::Bytes(message[..message.len() - 1].to_vec())];
                if let Some(written) = Piece::of_cell(columns[0].kinds[0], &columns[0].bytes) {
                    pieces.extend([Piece::Bytes(b",\"y\":".to_vec()), written]);
                }
                pieces.push(Piece::Bytes(b"}".to_vec()));
                prop_assert!(matches(value(record).unwrap_or_default(), &pieces), "{:?}", rejection);
            }
            Err(Doubt::Broken) => prop_assert!(rejection.is_some_and(Rejection::is_fault), "{:?}", rejection),
            Err(Doubt::Unknown) => {
                prop_assert!(rejection.is_none_or(|rejection| rejection.is_fault() || rejection.is_decision()));
            }
        }
    }
    Ok(())
}

#[test]
fn whatever_a_guest_points_to_the_host_lifts_what_is_sound_and_blames_it_for_the_rest() {
    let pipeline = RefCell::new(Guest::new(GUEST).pipeline(LIMITS).unwrap());
    let images = prop::collection::vec(images(), 1..4);
    TestRunner::new(cases(1_000)).run(&images, |images| compare(&mut pipeline.borrow_mut(), &images)).unwrap();
}
