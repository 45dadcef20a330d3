//! Which templates are checked, and what follows from the results.

use super::super::{
    inspect::{Finding, Inspection},
    ledger::Ledger,
    options::{Control, ValidationPlan},
    session::PoolClose,
};
use super::Gateway;
use crate::datum::message::{Validation, Wanted};

impl Gateway {
    /// Starts checking the template of `slot`, if it is its turn.
    pub(super) fn inspect(
        &mut self,
        slot: u8,
        control: &Control,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        let at = usize::from(slot);
        let Some(known) = self.slots.get_mut(at).and_then(Option::as_mut) else {
            return Ok(());
        };
        if std::mem::replace(&mut known.considered, true) {
            return Ok(());
        }
        let plan = self.config.validation;
        self.candidates = self.candidates.wrapping_add(1);
        if plan.every == 0 || !self.candidates.is_multiple_of(plan.every) {
            return Ok(());
        }
        let full = plan.full && known.job.total_size <= FULL_SIZE_MAX;
        let unchecked = ledger.gateway(&self.keys.long_term.ed25519).unchecked;
        let plan = ValidationPlan { full, ..plan };
        let (inspection, question) = Inspection::start(slot, plan, unchecked);
        self.inspections[at] = Some(inspection);
        self.say(&question, control, out)
    }

    pub(super) fn on_validation(
        &mut self,
        slot: u8,
        answer: &Validation<'_>,
        control: &Control,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        let at = usize::from(slot);
        let inspection = self.inspections.get_mut(at).and_then(Option::as_mut);
        let mut vouched = None;
        let finding = match (inspection, self.slots.get(at).and_then(Option::as_ref)) {
            (Some(inspection), Some(known)) => {
                vouched = inspection.is_open().then_some(inspection.unchecked);
                inspection.on_answer(slot, answer, &known.job, &self.short_ids)
            }
            _ => match answer {
                Validation::Error { error, .. } => Finding::Refused(*error),
                _ => Finding::Unasked,
            },
        };
        if let Some(vouched) = vouched {
            let memory = ledger.gateway(&self.keys.long_term.ed25519);
            match &finding {
                Finding::Good(None) => memory.unchecked.remove(vouched),
                Finding::Bad(_) | Finding::Refused(_) if control.habits.voids_unchecked => {
                    let voided = std::mem::take(&mut memory.unchecked);
                    ledger.stats.voided.merge(voided);
                }
                _ => {}
            }
        }
        let question = ledger.stats.on_finding(slot, answer, finding);
        question.map_or(Ok(()), |question| self.say(&question, control, out))
    }
}

impl super::super::PoolStatsView {
    /// Counts the result of an answer, and returns the next question.
    fn on_finding(
        &mut self,
        slot: u8,
        answer: &Validation<'_>,
        finding: Finding,
    ) -> Option<crate::datum::message::ToGateway<'static>> {
        match finding {
            Finding::Good(next) => {
                self.validations_ok += 1;
                match answer {
                    Validation::ShortIds { .. } => self.validated(Wanted::ShortIds),
                    Validation::Transactions(_) => self.validated(Wanted::Transactions),
                    Validation::Block(_) => self.validated(Wanted::Block),
                    Validation::Error { .. } => {}
                }
                return next;
            }
            Finding::Refused(error) => {
                self.validations_refused += 1;
                self.last_validation_refusal = Some(error.to_string());
            }
            Finding::Bad(flaw) => {
                self.validations_failed += 1;
                self.last_validation_failure = Some(format!("slot {slot}: {flaw}"));
            }
            Finding::Unasked => self.validations_unasked += 1,
        }
        None
    }
}

/// As many transactions as fit into one frame with some thousand lengths of three bytes.
const FULL_SIZE_MAX: u32 = 3_900_000;
