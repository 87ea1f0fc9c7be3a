//! `wallet payment`: what paid for an answer, as the person who asked for it can show it.

use node::money::{PaidVoucher, Payment};

use crate::{
    core::Core,
    failure::Failure,
    money::{reached, tokens, worth},
    output::Output,
};

pub(crate) async fn payment(
    core: &Core,
    job: &str,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let status = reached(core, output).await?;
    output.clear_progress();
    let payment = core.client.payment_open(job).await?;
    if json {
        return output.json(&payment);
    }
    let unit = status.network.map_or_else(String::new, |network| {
        format!(" {}{}", network.symbol, worth(network.test))
    });
    told(&payment, &unit)
        .iter()
        .try_for_each(|line| output.line(line))
}

fn told(payment: &Payment, unit: &str) -> Vec<String> {
    let receipt = match payment.receipt {
        true => "receipt: kept",
        false => "receipt: none is kept",
    };
    let mut lines = vec![format!("job {}", payment.job), receipt.to_owned()];
    if payment.vouchers.is_empty() {
        lines.push("paid: nothing was signed for it".to_owned());
    }
    for voucher in &payment.vouchers {
        lines.extend(of(voucher, unit));
    }
    lines
}

fn of(voucher: &PaidVoucher, unit: &str) -> Vec<String> {
    let held = |signature: &Option<String>| match signature {
        Some(_) => "made anew, and it holds",
        None => "cannot be made again here",
    };
    let mut lines = vec![
        format!("paid: {}{unit}", tokens(&voucher.paid)),
        format!(
            "voucher: {}{unit} in all, by {} for {}; signature: {}",
            tokens(&voucher.cumulative),
            voucher.signer,
            voucher.payee,
            held(&voucher.signature)
        ),
    ];
    if let Some(reservation) = &voucher.reservation {
        lines.push(format!(
            "reservation {}: up to {}{unit} in all; signature: {}",
            reservation.nonce,
            tokens(&reservation.upto),
            held(&reservation.signature)
        ));
    }
    lines.push(match &voucher.chain {
        Some(chain) => format!(
            "chain: {}{unit} of it claimed (block {}, {} endpoints)",
            tokens(&chain.claimed),
            chain.block,
            chain.endpoints
        ),
        None => "chain: not checked".to_owned(),
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_checked_is_not_said_to_hold() {
        let voucher = PaidVoucher {
            payer: "0x1".to_owned(),
            payee: "0x2".to_owned(),
            signer: "0x3".to_owned(),
            vault: "0x4".to_owned(),
            chain_id: 1,
            at_unix_ms: 1,
            paid: "20000000000000000".to_owned(),
            cumulative: "1500000000000000000".to_owned(),
            work: "0x5".to_owned(),
            signature: None,
            reservation: None,
            chain: None,
        };
        let payment = |vouchers| Payment {
            job: "aa".to_owned(),
            receipt: true,
            vouchers,
        };
        assert_eq!(
            told(&payment(vec![voucher]), " DGC"),
            [
                "job aa",
                "receipt: kept",
                "paid: 0.02 DGC",
                "voucher: 1.5 DGC in all, by 0x3 for 0x2; signature: cannot be made again here",
                "chain: not checked",
            ]
        );
        assert_eq!(
            told(&payment(Vec::new()), " DGC").last().unwrap(),
            "paid: nothing was signed for it"
        );
    }
}
