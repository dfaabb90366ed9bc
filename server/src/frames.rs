//! A body whose parts are looked at on their way.
//!
//! Knows nothing of what is looked for.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Error;
use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};

/// `body`, each part of which passes through `each`, which keeps its length or ends it. What `each`
/// owns is dropped with the body.
pub fn through(
    body: Body,
    each: impl FnMut(Frame<Bytes>) -> Result<Frame<Bytes>, Error> + Send + Unpin + 'static,
) -> Body {
    Body::new(Through { body, each })
}

struct Through<F> {
    body: Body,
    each: F,
}

impl<F: FnMut(Frame<Bytes>) -> Result<Frame<Bytes>, Error> + Unpin> HttpBody for Through<F> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        frame.map(|frame| frame.map(|frame| frame.and_then(&mut self.each)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
