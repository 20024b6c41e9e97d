//! The stack that chains of calls take, by the rule of the oldest kernels. Newer ones round less, so
//! a program that this machine loads may be refused elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use aya_obj::Object;
use aya_obj::generated::{
    BPF_ADD, BPF_ALU64, BPF_CALL, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MOV, BPF_PSEUDO_CALL,
    BPF_ST, BPF_STX, BPF_X, bpf_insn,
};

/// `MAX_BPF_STACK` (include/linux/filter.h): what a function and those that it calls have together.
const STACK_MAX: usize = 512;
/// Until 6.7 the stack of each function counts in steps of it (`check_max_stack_depth`,
/// kernel/bpf/verifier.c).
const STEP: usize = 32;
/// The bits of an opcode that tell its class (`BPF_CLASS`).
const CLASS: u32 = 0x07;
/// The register that points to the upper end of a function's stack.
const FRAME: u8 = 10;
const REGISTERS: usize = 11;

/// A function of a program: the stack of its own in bytes, and the first instructions of those it
/// calls.
#[derive(Debug, Default)]
struct Frame {
    bytes: usize,
    calls: BTreeSet<usize>,
}

#[test]
fn no_chain_of_calls_takes_more_stack_than_the_oldest_kernels_have() {
    let mut object = Object::parse(ebpf_object::datapath().unwrap()).unwrap();
    let sections = object.functions.keys().map(|(section, _)| *section);
    object.relocate_calls(&sections.collect()).unwrap();
    let mut too_deep = Vec::new();
    for (name, program) in &object.programs {
        let instructions = &object.functions[&program.function_key()].instructions;
        let frames = frames(instructions);
        let bytes = deepest(&frames, 0);
        println!("{name}: {bytes} bytes, {} of its own", frames[&0].bytes);
        if bytes > STACK_MAX {
            too_deep.push((name, bytes));
        }
    }
    assert_eq!(object.programs.len(), 15);
    assert_eq!(too_deep, []);
}

/// All functions of a program, by their first instruction.
fn frames(instructions: &[bpf_insn]) -> BTreeMap<usize, Frame> {
    let callees = (0..instructions.len()).filter_map(|at| callee(instructions, at));
    let mut frames: BTreeMap<usize, Frame> = [0]
        .into_iter()
        .chain(callees)
        .map(|start| (start, Frame::default()))
        .collect();
    let starts: Vec<usize> = frames.keys().copied().collect();
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied();
        let range = *start..end.unwrap_or(instructions.len());
        let calls = range.clone().filter_map(|at| callee(instructions, at));
        let frame = Frame {
            calls: calls.collect(),
            bytes: stack_of(&instructions[range]),
        };
        frames.insert(*start, frame);
    }
    frames
}

/// First instruction of the function that an instruction calls.
fn callee(instructions: &[bpf_insn], at: usize) -> Option<usize> {
    let call = &instructions[at];
    let is_call =
        u32::from(call.code) == BPF_JMP | BPF_CALL && u32::from(call.src_reg()) == BPF_PSEUDO_CALL;
    is_call.then(|| at.strict_add_signed(call.imm as isize) + 1)
}

/// How far down a function's accesses and pointers reach.
fn stack_of(instructions: &[bpf_insn]) -> usize {
    let mut lowest = 0;
    // Registers that hold the upper end of the stack, on their way to a pointer below it.
    let mut is_frame = [false; REGISTERS];
    is_frame[usize::from(FRAME)] = true;
    for instruction in instructions {
        let code = u32::from(instruction.code);
        let class = code & CLASS;
        let (to, from) = (
            usize::from(instruction.dst_reg()),
            usize::from(instruction.src_reg()),
        );
        match class {
            BPF_STX | BPF_ST if to == usize::from(FRAME) => {
                lowest = lowest.min(i32::from(instruction.off));
            }
            BPF_ALU64 if code == BPF_ALU64 | BPF_MOV | BPF_X => is_frame[to] = is_frame[from],
            BPF_ALU64 if code == BPF_ALU64 | BPF_ADD | BPF_K && is_frame[to] => {
                lowest = lowest.min(instruction.imm);
            }
            BPF_ALU64 | BPF_LD | BPF_LDX => is_frame[to] = false,
            // What is called leaves nothing in the registers of its result and arguments.
            BPF_JMP if code == BPF_JMP | BPF_CALL => is_frame[..6].fill(false),
            _ => {}
        }
    }
    lowest.unsigned_abs() as usize
}

fn deepest(frames: &BTreeMap<usize, Frame>, function: usize) -> usize {
    let frame = &frames[&function];
    let below = frame.calls.iter().map(|callee| deepest(frames, *callee));
    frame.bytes.max(1).next_multiple_of(STEP) + below.max().unwrap_or_default()
}
