//! What this library does about a line, where the page claims more than a figure.

use roofline_core::analysis::Analyst;
use roofline_core::catalog;
use roofline_core::format::Format;
use roofline_core::llm_viewer::{Inputs, analyze};
use roofline_core::op::elementwise::Fusion;
use roofline_core::point::Question;

use crate::case::{A, A100, Case, ENGINE, F, G, MAIN, SIXTEEN};
use crate::effects::fastest_softmax;
use crate::tool::row;

#[test]
fn line_21_the_tool_has_no_row_for_gather_rope_and_final_norm_and_biases_are_held() {
    for rows in [A.tool().prefill, A.tool().decode] {
        for row in rows {
            assert!(
                !["rope", "embedding", "final_norm"].iter().any(|name| row.op.contains(name)),
                "{}",
                row.op
            );
        }
    }
    let tokens = 2048.0;
    let unfused = Case { fusion: Fusion::None, ..A };
    let bytes = |op| unfused.our_sum(Question::Prefill, &[op], |op| op.work.bytes());
    assert_eq!(bytes("embedding"), 2.0 * tokens * 4096.0 * 2.0);
    assert_eq!(bytes("final_norm"), 2.0 * tokens * 4096.0 * 2.0);
    assert_eq!(bytes("rope"), 32.0 * 2.0 * tokens * 2.0 * 4096.0 * 2.0);
    // OPT-6.7b has biases on all six matrices of a layer, and norms with biases.
    let weights = F.ours(Question::Prefill).outcome.memory.weights;
    let matrices = 32.0 * (4.0 * 4096.0 * 4096.0 + 2.0 * 4096.0 * 16384.0) + 50272.0 * 4096.0;
    let vectors = 32.0 * (4.0 * 4096.0 + 16384.0 + 4096.0 + 4.0 * 4096.0) + 2.0 * 4096.0;
    let positions = 2050.0 * 4096.0;
    assert_eq!(weights, 2.0 * (matrices + vectors + positions));
}

#[test]
fn line_26_no_softmax_is_faster_than_the_vector_unit() {
    let hardware = catalog::hardware::hardware(A100.1).unwrap().item;
    assert!((fastest_softmax(&A) / hardware.vector_peak(Format::Fp32) - 1.0).abs() < 1e-12);
    let narrow = analyze(MAIN, &A.config(), A100.0, &Inputs { a_bit: 1, ..A.inputs() }).unwrap();
    let softmax = row(&narrow.prefill, "softmax");
    assert_eq!(softmax.bound, "memory");
    assert!(softmax.performance > 2.0 * hardware.vector_peak(Format::Fp32), "{}", softmax.performance);
}

#[test]
fn line_30_fewer_bits_are_never_slower() {
    for device in ["v100-sxm", "a100-80gb-sxm", "h100-sxm", "core-i9-13900k"] {
        let time = |bits| {
            let case = Case { bits, device: ("", device), ..A };
            case.ours(Question::Prefill).outcome.times.step.ideal
        };
        assert!(time((8, 8, 8)) <= time(SIXTEEN), "{device}");
    }
}

#[test]
fn line_33_a_prompt_of_one_token_is_priced_like_a_decode_step_on_an_empty_cache() {
    let one = Case { tokens: 1, ..G };
    let analyst = Analyst::new(one.deployment(), &ENGINE).unwrap();
    let reaches = analyst.pricer().reaches();
    let point = one.point(Question::Prefill);
    let prompt = analyst.pricer().seconds(&point.prompt_steps(reaches, true)[0]);
    let decode = analyst.pricer().seconds(&point.verify_step(reaches, 1, 0));
    assert_eq!(prompt.ideal, decode.ideal);
}
