//! A request that was drawn, and where its values go.

use crate::trace::{Labels, Trace};

/// A request that was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Nanoseconds since the first could arrive.
    pub arrival_ns: u64,
    /// Tokens of the whole prompt, what it shares included.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub output_tokens: u32,
    /// Which text the prompt begins with.
    pub prefix_group: u32,
    /// Tokens of that text.
    pub prefix_tokens: u32,
    /// Its adapter by number, if it has one.
    pub lora: Option<u32>,
    /// Who asks, by number, if that is known.
    pub tenant: Option<u32>,
    /// Images, and the tokens of the prompt that are of images, sound and moving pictures; nothing where nobody knows.
    pub media: Option<[u32; 4]>,
}

impl Request {
    /// Adds it to a trace.
    pub(super) fn push(&self, trace: &mut Trace) {
        self.label(trace);
        trace.arrival_ns.push(self.arrival_ns);
        trace.prompt_tokens.push(self.prompt_tokens);
        trace.output_tokens.push(self.output_tokens);
    }

    /// Adds what it is besides its arrival and lengths.
    pub(super) fn label(&self, trace: &mut Trace) {
        let carried = &mut trace.carried;
        if let Some(lora) = self.lora {
            carried.lora.get_or_insert_with(Labels::default).of.push(lora);
        }
        if let Some(tenant) = self.tenant {
            carried.tenant.get_or_insert_with(Labels::default).of.push(tenant);
        }
        if let Some([images, image_tokens, audio_tokens, video_tokens]) = self.media {
            carried.images.push(images);
            carried.image_tokens.push(image_tokens);
            carried.audio_tokens.push(audio_tokens);
            carried.video_tokens.push(video_tokens);
        }
    }
}
