//! Look-ups that one worker is asked for in the same turn go to the store together: they are handed over once, and
//! the worker is woken once for all of them.

use std::cell::RefCell;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use store::{Error, Outcome, Question, Reader};

/// What one worker is asked for.
pub(crate) struct Together {
    reader: Reader,
    /// The turn that still takes questions.
    open: RefCell<Option<Turn>>,
}

struct Turn {
    questions: Vec<Question>,
    seats: Seats,
}

/// One for each question of a turn.
type Seats = Rc<RefCell<Vec<Seat>>>;

enum Seat {
    Asked,
    Awaited(Waker),
    Answered(Outcome),
}

/// The outcome of a question, when it is there.
pub(crate) struct Answer {
    seats: Seats,
    place: usize,
}

impl Together {
    pub(crate) fn new(reader: Reader) -> Rc<Self> {
        Rc::new(Self { reader, open: RefCell::default() })
    }

    /// Asks together with all that arrive in the same turn.
    pub(crate) fn ask(self: &Rc<Self>, question: Question) -> Answer {
        let mut open = self.open.borrow_mut();
        let turn = open.get_or_insert_with(|| {
            actix_web::rt::spawn(self.clone().end_turn());
            Turn { questions: Vec::with_capacity(16), seats: Seats::default() }
        });
        let (mut seats, place) = (turn.seats.borrow_mut(), turn.questions.len());
        turn.questions.push(question);
        seats.push(Seat::Asked);
        Answer { seats: turn.seats.clone(), place }
    }

    async fn end_turn(self: Rc<Self>) {
        // First the others have their turn, who may ask as well.
        tokio::task::yield_now().await;
        let Some(Turn { questions, seats }) = self.open.take() else { return };
        let asked = Asked(seats);
        self.reader.ask_together(questions, |place, outcome| asked.answer(place, outcome)).await;
    }
}

/// Questions that are at the store.
struct Asked(Seats);

impl Asked {
    fn answer(&self, place: usize, outcome: Outcome) {
        let before = mem::replace(&mut self.0.borrow_mut()[place], Seat::Answered(outcome));
        if let Seat::Awaited(waker) = before {
            waker.wake();
        }
    }
}

impl Drop for Asked {
    /// Nobody waits for what will never be answered.
    fn drop(&mut self) {
        let count = self.0.borrow().len();
        for place in 0..count {
            if !matches!(self.0.borrow()[place], Seat::Answered(_)) {
                self.answer(place, Err(Error::Unavailable("the look-up was given up".into())));
            }
        }
    }
}

impl Future for Answer {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let seat = &mut self.seats.borrow_mut()[self.place];
        match mem::replace(seat, Seat::Asked) {
            Seat::Answered(outcome) => Poll::Ready(outcome),
            Seat::Awaited(waker) if waker.will_wake(context.waker()) => {
                *seat = Seat::Awaited(waker);
                Poll::Pending
            }
            Seat::Asked | Seat::Awaited(_) => {
                *seat = Seat::Awaited(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
