// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {PayVault} from "../src/money/PayVault.sol";

/// A token that keeps a part of each transfer.
contract TakesAFee is ERC20 {
    constructor() ERC20("Fee", "FEE") {
        _mint(msg.sender, 1000 ether);
    }

    function _update(address from, address to, uint256 value) internal override {
        if (from != address(0) && to != address(0)) {
            super._update(from, address(1), value / 100);
            value -= value / 100;
        }
        super._update(from, to, value);
    }
}

/// Each function of the vault, and what each refuses.
contract PayVaultTest is Base {
    function test_a_voucher_pays_the_payout_once() public {
        _check(_claim(payee, 10 ether) == 10 ether, "the first voucher pays in full");
        _check(token.balanceOf(payout) == 10 ether, "the payout has it");
        _check(_claim(payee, 10 ether) == 0, "a replay pays nothing");
        _check(_claim(payee, 4 ether) == 0, "a lower one pays nothing");
        _check(_claim(payee, 12 ether) == 2 ether, "a higher one pays the rest");
        _check(vault.freeOf(payer, signer) == 88 ether, "the grant is less by what was paid");
    }

    function test_bad_rows_are_passed_over() public {
        PayVault.Claim[] memory rows = new PayVault.Claim[](5);
        rows[0] = _row(99, payer, payee, 5 ether); // a key that is no signer
        rows[1] = _row(signerKey, stranger, payee, 5 ether); // a payer who is none
        rows[2] = _row(signerKey, payer, payee, 7 ether);
        rows[3] = _row(signerKey, payer, stranger, 9 ether); // signed for another payee
        rows[4] = PayVault.Claim({payer: payer, cumulative: type(uint128).max, work: 0, r: 0, vs: 0});
        _check(vault.claim(payee, rows) == 7 ether, "only the good row pays");
    }

    function test_a_voucher_of_another_chain_or_vault_is_none() public {
        PayVault.Claim[] memory rows = new PayVault.Claim[](1);
        rows[0] = _row(signerKey, payer, payee, 5 ether);
        VM.chainId(777);
        _check(vault.claim(payee, rows) == 0, "another chain");
        VM.chainId(31337);
        PayVault other = new PayVault(token, timelock, GAS_SHARE, REWARD);
        VM.prank(payee);
        other.registerPayee(payout);
        _check(other.claim(payee, rows) == 0, "another vault");
    }

    function test_a_short_grant_pays_what_there_is_and_can_come_again() public {
        _check(_claim(payee, 150 ether) == 100 ether, "the whole grant");
        VM.prank(payer);
        vault.setSigner(signer, 20 ether, _in(30 days), 0, 0);
        _check(_claim(payee, 150 ether) == 20 ether, "what came on top");
    }

    function test_nobody_is_paid_before_they_said_where_to() public {
        PayVault.Claim[] memory rows = new PayVault.Claim[](1);
        rows[0] = _row(signerKey, payer, stranger, 5 ether);
        VM.expectPartialRevert(PayVault.PayeeUnknown.selector);
        vault.claim(stranger, rows);
    }

    function test_only_the_payout_moves_the_payout() public {
        VM.prank(payee);
        VM.expectPartialRevert(PayVault.NotPayout.selector);
        vault.movePayout(payee, stranger);
        VM.prank(payee);
        VM.expectPartialRevert(PayVault.PayeeKnown.selector);
        vault.registerPayee(stranger);
        VM.prank(payout);
        vault.movePayout(payee, stranger);
        _claim(payee, 1 ether);
        _check(token.balanceOf(stranger) == 1 ether, "claims go to the new payout");
    }

    function test_what_is_not_granted_leaves_at_once_and_what_is_does_not() public {
        VM.startPrank(payer);
        VM.expectPartialRevert(PayVault.BalanceTooLow.selector);
        vault.withdraw(398 ether);
        vault.withdraw(397 ether);
        VM.stopPrank();
        _check(vault.balanceOf(payer) == 0, "all that was free is gone");
        _check(_claim(payee, 100 ether) == 100 ether, "the grant is whole");
    }

    function test_a_grant_comes_back_after_one_thaw_and_the_bond_after_two() public {
        VM.startPrank(payer);
        vault.endSigner(signer);
        VM.expectPartialRevert(PayVault.SignerOver.selector);
        vault.setSigner(signer, 1 ether, _in(60 days), 0, 0);
        VM.stopPrank();
        _check(_claim(payee, 30 ether) == 30 ether, "what was signed before stays good");
        VM.expectPartialRevert(PayVault.TooEarly.selector);
        vault.thaw(payer, signer);
        VM.warp(block.timestamp + 14 days);
        vault.thaw(payer, signer);
        _check(vault.balanceOf(payer) == 397 ether + 70 ether, "the rest of the grant");
        _check(_claim(payee, 40 ether) == 0, "nothing is left to claim");
        VM.warp(block.timestamp + 14 days);
        vault.thaw(payer, signer);
        // A share of the gas pot went to the line that claimed after the end.
        _check(vault.balanceOf(payer) == 397 ether + 70 ether + 3 ether - GAS_SHARE, "bond and gas pot");
        vault.thaw(payer, signer);
        _check(vault.balanceOf(payer) == 397 ether + 70 ether + 3 ether - GAS_SHARE, "once");
    }

    function test_a_signer_is_bounded_in_time() public {
        VM.startPrank(payer);
        VM.expectPartialRevert(PayVault.BadUntil.selector);
        vault.setSigner(stranger, 1 ether, _in(366 days), 0, 0);
        VM.expectPartialRevert(PayVault.BadUntil.selector);
        vault.setSigner(stranger, 1 ether, type(uint64).max, 0, 0);
        VM.expectPartialRevert(PayVault.BadUntil.selector);
        vault.setSigner(stranger, 1 ether, uint64(block.timestamp), 0, 0);
        VM.expectPartialRevert(PayVault.BadUntil.selector);
        vault.setSigner(signer, 1 ether, _in(29 days), 0, 0); // it is not shortened
        VM.stopPrank();
    }

    function test_a_reservation_is_for_one_payee_alone() public {
        address other = VM.addr(7);
        _register(other, stranger);
        _reserve(payee, 60 ether, _in(7 days), 1);
        _check(_claim(other, 80 ether) == 40 ether, "the others get what is not held");
        _check(_claim(payee, 60 ether) == 60 ether, "what is held is there");
        VM.expectPartialRevert(PayVault.NonceUsed.selector);
        _reserve(payee, 60 ether, _in(7 days), 1);
    }

    function test_a_reservation_outlives_its_signer_but_not_its_time() public {
        _reserve(payee, 60 ether, _in(7 days), 1);
        VM.prank(payer);
        vault.endSigner(signer);
        VM.expectPartialRevert(PayVault.SignerOver.selector);
        _reserve(payee, 70 ether, _in(7 days), 2);
        VM.warp(block.timestamp + 7 days - 1);
        _check(_claim(payee, 50 ether) == 50 ether, "held");
        VM.warp(block.timestamp + 1);
        vault.release(payer, signer, payee);
        _check(vault.freeOf(payer, signer) == 50 ether, "the rest is free again");
    }

    function test_a_reservation_longer_than_the_thaw_is_refused() public {
        VM.expectPartialRevert(PayVault.BadUntil.selector);
        _reserve(payee, 60 ether, _in(7 days + 1), 1);
        VM.expectPartialRevert(PayVault.BadUntil.selector);
        _reserve(payee, 60 ether, type(uint64).max, 1);
    }

    function test_a_reservation_sent_after_its_claim_locks_nothing() public {
        _claim(payee, 60 ether);
        _reserve(payee, 60 ether, _in(1 days), 1);
        _check(vault.freeOf(payer, signer) == 40 ether, "nothing is held for what was paid");
    }

    function test_a_live_reservation_is_only_raised() public {
        _reserve(payee, 60 ether, _in(2 days), 1);
        VM.expectPartialRevert(PayVault.LineLocked.selector);
        _reserve(payee, 50 ether, _in(3 days), 2);
        VM.expectPartialRevert(PayVault.LineLocked.selector);
        _reserve(payee, 70 ether, _in(1 days), 2);
        _reserve(payee, 70 ether, _in(3 days), 2);
        _check(vault.freeOf(payer, signer) == 30 ether, "raised, not added");
        VM.expectPartialRevert(PayVault.GrantTooLow.selector);
        _reserve(payee, 101 ether, _in(3 days), 3);
    }

    function test_only_the_payee_gives_a_live_reservation_up() public {
        _reserve(payee, 60 ether, _in(2 days), 1);
        VM.expectPartialRevert(PayVault.NotPayee.selector);
        vault.release(payer, signer, payee);
        VM.prank(payee);
        vault.release(payer, signer, payee);
        _check(vault.freeOf(payer, signer) == 100 ether, "free again");
    }

    function test_an_expired_reservation_is_no_lock_for_its_own_line() public {
        _reserve(payee, 60 ether, _in(1 days), 1);
        VM.warp(block.timestamp + 2 days);
        _check(_claim(payee, 90 ether) == 90 ether, "the voucher draws on the whole grant");
        vault.release(payer, signer, payee);
        _check(vault.freeOf(payer, signer) == 10 ether, "nothing is unlocked twice");
    }

    function test_tiny_debts_get_their_gas_when_the_signer_ends_once_a_line() public {
        _claim(payee, 1);
        _check(token.balanceOf(payout) == 1, "while it lives, no gas is paid");
        VM.prank(payer);
        vault.endSigner(signer);
        _claim(payee, 3);
        _check(token.balanceOf(payout) == 3 + GAS_SHARE, "the debt and its gas");
        _claim(payee, 5);
        _check(token.balanceOf(payout) == 5 + GAS_SHARE, "gas once");
    }

    function test_copied_calldata_pays_the_payee_and_nobody_else() public {
        PayVault.Claim[] memory rows = new PayVault.Claim[](1);
        rows[0] = _row(signerKey, payer, payee, 5 ether);
        VM.prank(stranger);
        vault.claim(payee, rows);
        _check(token.balanceOf(payout) == 5 ether && token.balanceOf(stranger) == 0, "it is the payout's");
    }

    function test_a_token_that_takes_a_fee_is_refused() public {
        TakesAFee bad = new TakesAFee();
        PayVault other = new PayVault(bad, timelock, GAS_SHARE, REWARD);
        bad.approve(address(other), type(uint256).max);
        VM.expectPartialRevert(PayVault.NothingArrived.selector);
        other.deposit(address(this), 10 ether);
    }

    function test_the_fee_is_the_votes_and_bounded() public {
        VM.expectPartialRevert(PayVault.NotFeeSetter.selector);
        vault.setFee(10, stranger);
        VM.startPrank(timelock);
        VM.expectPartialRevert(PayVault.FeeTooHigh.selector);
        vault.setFee(1001, stranger);
        vault.setFee(250, stranger);
        VM.stopPrank();
        _claim(payee, 10 ether);
        _check(token.balanceOf(payout) == 9.75 ether, "less the fee");
        VM.prank(stranger);
        vault.withdraw(0.25 ether);
        _check(token.balanceOf(stranger) == 0.25 ether, "which its receiver takes out");
    }

    function test_a_fee_receiver_that_cannot_be_paid_holds_nobody_up() public {
        VM.prank(timelock);
        vault.setFee(1000, address(token));
        _check(_claim(payee, 10 ether) == 10 ether, "claims go on");
    }

    // ------------------------------------------------------------------------------------------- the first deposit

    function _intent() internal view returns (PayVault.Start memory) {
        return PayVault.Start({
            payer: payer,
            deposit: 10 ether,
            signer: VM.addr(8),
            grant: 5 ether,
            until: _in(10 days),
            bond: 1 ether,
            gasPot: 1 ether,
            relayerFee: 0.1 ether,
            nonce: 7,
            deadline: block.timestamp + 1 hours
        });
    }

    function _signStart(uint256 key, PayVault.Start memory i) internal view returns (bytes32, bytes32) {
        return _compact(
            key,
            _typed(
                keccak256(
                    abi.encode(
                        keccak256(
                            "Start(address payer,uint128 deposit,address signer,uint128 grant,uint64 until,uint128 bond,uint128 gasPot,uint128 relayerFee,uint256 nonce,uint256 deadline)"
                        ),
                        i
                    )
                )
            )
        );
    }

    function _permit(uint256 key, uint256 value) internal view returns (PayVault.Permit memory) {
        bytes32 digest = keccak256(
            abi.encodePacked(
                hex"1901",
                token.DOMAIN_SEPARATOR(),
                keccak256(
                    abi.encode(
                        keccak256(
                            "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
                        ),
                        VM.addr(key),
                        address(vault),
                        value,
                        token.nonces(VM.addr(key)),
                        block.timestamp + 1 hours
                    )
                )
            )
        );
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(key, digest);
        return PayVault.Permit({value: value, deadline: block.timestamp + 1 hours, v: v, r: r, s: s});
    }

    function test_a_payer_without_gas_is_brought_by_anyone() public {
        VM.prank(payer);
        token.approve(address(vault), 0);
        PayVault.Start memory i = _intent();
        (bytes32 r, bytes32 vs) = _signStart(1, i);
        PayVault.Permit memory p = _permit(1, 10 ether);
        VM.prank(stranger);
        vault.startFor(i, p, r, vs);
        _check(token.balanceOf(stranger) == 0.1 ether, "the relayer has its fee");
        _check(vault.freeOf(payer, VM.addr(8)) == 5 ether, "the signer has its grant");
        VM.prank(payer);
        token.approve(address(vault), 100 ether);
        VM.expectPartialRevert(PayVault.NonceUsed.selector);
        vault.startFor(i, p, r, vs);
    }

    function test_a_permit_used_by_somebody_else_stops_nothing() public {
        VM.prank(payer);
        token.approve(address(vault), 0);
        PayVault.Start memory i = _intent();
        (bytes32 r, bytes32 vs) = _signStart(1, i);
        PayVault.Permit memory p = _permit(1, 10 ether);
        token.permit(payer, address(vault), p.value, p.deadline, p.v, p.r, p.s);
        VM.prank(stranger);
        vault.startFor(i, p, r, vs);
        _check(vault.freeOf(payer, VM.addr(8)) == 5 ether, "it went through");
    }

    function test_an_intent_is_what_was_signed() public {
        PayVault.Start memory i = _intent();
        (bytes32 r, bytes32 vs) = _signStart(1, i);
        PayVault.Permit memory none;
        i.relayerFee = 1 ether;
        VM.expectPartialRevert(PayVault.BadSignature.selector);
        vault.startFor(i, none, r, vs);
        i.relayerFee = 0.1 ether;
        VM.warp(block.timestamp + 2 hours);
        VM.expectPartialRevert(PayVault.Late.selector);
        vault.startFor(i, none, r, vs);
    }

    // ------------------------------------------------------------------------------------------------- fuzz

    /// Whatever the order of cumulative vouchers, a line pays the highest, up to the grant.
    function testFuzz_a_line_pays_its_highest_voucher(uint128[8] calldata amounts) public {
        uint128 highest;
        uint128 paid;
        for (uint256 i = 0; i < amounts.length; ++i) {
            uint128 amount = amounts[i] % 120 ether;
            if (amount > highest) highest = amount;
            paid += _claim(payee, amount);
        }
        uint128 expected = highest > 100 ether ? 100 ether : highest;
        _check(paid == expected && token.balanceOf(payout) == expected, "the highest, up to the grant");
    }

    /// A row of any bytes never reverts and never pays.
    function testFuzz_a_row_of_any_bytes_pays_nothing(PayVault.Claim[] calldata rows) public {
        _check(vault.claim(payee, rows) == 0, "noise pays nothing");
    }
}
