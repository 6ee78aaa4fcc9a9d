//! Makes a call filter of a list of refusals: short, because the kernel compiles it at every launch and asks it at
//! every call.
//!
//! Owns: the layout. Call numbers stand in order, in blocks that are skipped as a whole, so that a call which
//! nothing refuses costs a few comparisons. Never decides what is refused ([`super::rules`] does), nor puts a
//! filter on anything.

use std::collections::BTreeMap;

use seccompiler::BpfProgram;
use seccompiler::SeccompAction;
use seccompiler::SeccompFilter;
use seccompiler::sock_filter;

use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;

/// What one argument of a call is asked; only its low 32 bits are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal {
        index: u8,
        value: u32,
    },
    Differs {
        index: u8,
        value: u32,
    },
    /// At least one of the bits is set.
    AnyBit {
        index: u8,
        bits: u32,
    },
}

/// When a call is refused, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) errno: i32,
    /// Refused where all tests of one of these hold; whatever the arguments are where there is none.
    pub(super) cases: Vec<Vec<Test>>,
}

/// The refusals by call number.
pub(super) type Refusals = BTreeMap<i64, Refusal>;

/// So many calls share one comparison that skips them; a block stays short enough for a jump.
const BLOCK_CALLS: usize = 8;

const LOAD: u16 = 0x20;
const RETURN: u16 = 0x06;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_GREATER: u16 = 0x25;
const JUMP_IF_SET: u16 = 0x45;
/// Where `struct seccomp_data` has the call's number and its first argument.
const NUMBER_AT: u32 = 0;
const ARGUMENTS_AT: u32 = 16;
/// The bit of a call number that says "x32" on x86-64.
const X32_BIT: u32 = 0x4000_0000;

/// Compiles the refusals; everything else is allowed.
pub(super) fn compile(refusals: &Refusals) -> Result<BpfProgram, SealError> {
    let mut program = foreign_calls_refused()?;
    program.push(load(NUMBER_AT));
    let calls: Vec<_> = refusals.iter().collect();
    for block in calls.chunks(BLOCK_CALLS) {
        let mut body = Vec::new();
        for &(number, refusal) in block {
            let answer = answer(refusal)?;
            body.push(jump(JUMP_IF_EQUAL, word(*number)?, 0, answer.len())?);
            body.extend(answer);
        }
        body.push(give(libc::SECCOMP_RET_ALLOW));
        let last = block.last().map_or(0, |(number, _)| **number);
        program.push(jump(JUMP_IF_GREATER, word(last)?, body.len(), 0)?);
        program.extend(body);
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    Ok(program)
}

/// Refuses calls of another architecture (i386 programs, `int 0x80`) with EPERM instead of killing, and x32 calls,
/// whose numbers no refusal would match.
fn foreign_calls_refused() -> Result<BpfProgram, SealError> {
    let arch = std::env::consts::ARCH
        .try_into()
        .map_err(|problem| fault(&problem))?;
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(BTreeMap::new(), SeccompAction::Allow, refuse, arch)
        .map_err(|problem| fault(&problem))?;
    let mut native: BpfProgram = filter.try_into().map_err(|problem| fault(&problem))?;
    // Without rules it is: load arch; skip one if it is ours; kill; allow.
    if native.pop() != Some(give(libc::SECCOMP_RET_ALLOW)) {
        return Err(fault(&"an empty filter does not end by allowing"));
    }
    let refuse = errno(libc::EPERM);
    for instruction in &mut native {
        if instruction.code == RETURN {
            *instruction = give(refuse);
        }
    }
    let mut program = vec![
        load(NUMBER_AT),
        jump(JUMP_IF_SET, X32_BIT, 0, 1)?,
        give(refuse),
    ];
    program.append(&mut native);
    Ok(program)
}

/// What is answered once the number is the call's.
fn answer(refusal: &Refusal) -> Result<Vec<sock_filter>, SealError> {
    let refuse = give(errno(refusal.errno));
    if refusal.cases.is_empty() {
        return Ok(vec![refuse]);
    }
    let mut answer = Vec::new();
    for case in &refusal.cases {
        for (at, test) in case.iter().enumerate() {
            // Two instructions for each test that is left, and the refusal.
            let past = 2 * (case.len() - at - 1) + 1;
            answer.extend(asked(*test, past)?);
        }
        answer.push(refuse.clone());
    }
    answer.push(give(libc::SECCOMP_RET_ALLOW));
    Ok(answer)
}

/// Goes on where the test holds, and skips `past` instructions where it does not.
fn asked(test: Test, past: usize) -> Result<[sock_filter; 2], SealError> {
    let (index, jump) = match test {
        Test::Equal { index, value } => (index, jump(JUMP_IF_EQUAL, value, 0, past)?),
        Test::Differs { index, value } => (index, jump(JUMP_IF_EQUAL, value, past, 0)?),
        Test::AnyBit { index, bits } => (index, jump(JUMP_IF_SET, bits, 0, past)?),
    };
    let low_half = if cfg!(target_endian = "big") { 4 } else { 0 };
    Ok([load(ARGUMENTS_AT + 8 * u32::from(index) + low_half), jump])
}

fn load(at: u32) -> sock_filter {
    instruction(LOAD, 0, 0, at)
}

fn give(answer: u32) -> sock_filter {
    instruction(RETURN, 0, 0, answer)
}

fn jump(code: u16, value: u32, if_so: usize, if_not: usize) -> Result<sock_filter, SealError> {
    let far = |length: usize| u8::try_from(length).map_err(|_| fault(&"a jump is too far"));
    Ok(instruction(code, far(if_so)?, far(if_not)?, value))
}

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number.cast_unsigned()
}

fn word(number: i64) -> Result<u32, SealError> {
    u32::try_from(number).map_err(|_| fault(&"a call number is out of range"))
}

fn fault(problem: &impl std::fmt::Display) -> SealError {
    SealError::new(
        Layer::Seccomp,
        format!("cannot build the filter: {problem}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel would.
    fn run(program: &[sock_filter], arch: u32, number: u32, arguments: [u32; 6]) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let one = &program[at];
            at += 1;
            let skip = |holds: bool| usize::from(if holds { one.jt } else { one.jf });
            match one.code {
                LOAD => {
                    value = match one.k {
                        NUMBER_AT => number,
                        4 => arch,
                        offset => {
                            let argument = (offset - ARGUMENTS_AT) as usize;
                            assert_eq!(argument % 8, 0);
                            arguments[argument / 8]
                        }
                    };
                }
                RETURN => return one.k,
                JUMP_IF_EQUAL => at += skip(value == one.k),
                JUMP_IF_GREATER => at += skip(value > one.k),
                JUMP_IF_SET => at += skip(value & one.k != 0),
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    fn native() -> u32 {
        foreign_calls_refused()
            .unwrap()
            .iter()
            .find(|one| one.code == JUMP_IF_EQUAL)
            .unwrap()
            .k
    }

    /// What the list says, read plainly.
    fn model(refusals: &Refusals, number: u32, arguments: [u32; 6]) -> u32 {
        let holds = |test: &Test| match *test {
            Test::Equal { index, value } => arguments[usize::from(index)] == value,
            Test::Differs { index, value } => arguments[usize::from(index)] != value,
            Test::AnyBit { index, bits } => arguments[usize::from(index)] & bits != 0,
        };
        match refusals.get(&i64::from(number)) {
            Some(refusal)
                if refusal.cases.is_empty()
                    || refusal.cases.iter().any(|case| case.iter().all(holds)) =>
            {
                errno(refusal.errno)
            }
            _ => libc::SECCOMP_RET_ALLOW,
        }
    }

    #[test]
    fn a_filter_answers_as_the_list_says() {
        let refusals = crate::sandbox::rules::every_refusal();
        let program = compile(&refusals).unwrap();
        let check = |number: u32, arguments: [u32; 6]| {
            assert_eq!(
                run(&program, native(), number, arguments),
                model(&refusals, number, arguments),
                "call {number} {arguments:x?}"
            );
        };
        for number in (0..600).chain([u32::MAX >> 2]) {
            let refusal = refusals.get(&i64::from(number));
            let tests = refusal
                .iter()
                .flat_map(|refusal| refusal.cases.iter().flatten());
            let values: std::collections::BTreeSet<u32> = tests
                .flat_map(|test| match *test {
                    Test::Equal { value, .. } | Test::Differs { value, .. } => {
                        vec![value, value + 1]
                    }
                    Test::AnyBit { bits, .. } => (0..32).map(|bit| bits & (1 << bit)).collect(),
                })
                .chain([0, 1, u32::MAX])
                .collect();
            for (first, second) in values
                .iter()
                .flat_map(|first| values.iter().map(move |second| (*first, *second)))
            {
                check(number, [first, second, first, second, 0, 0]);
                check(number, [0, first, second, first, 0, 0]);
            }
        }
    }

    #[test]
    fn calls_of_another_architecture_are_refused_whatever_they_are() {
        let program = compile(&crate::sandbox::rules::every_refusal()).unwrap();
        let refused = errno(libc::EPERM);
        for number in 0..600 {
            assert_eq!(run(&program, native() ^ 1, number, [0; 6]), refused);
            assert_eq!(run(&program, native(), number | X32_BIT, [0; 6]), refused);
        }
    }

    #[test]
    fn an_ordinary_call_costs_few_instructions() {
        let program = compile(&crate::sandbox::rules::every_refusal()).unwrap();
        assert!(program.len() < 350, "{} instructions", program.len());
    }
}
