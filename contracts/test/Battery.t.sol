// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {Base} from "./Base.sol";
import {PayVault} from "../src/money/PayVault.sol";

/// A token with more units than a grant can count.
contract Plenty is ERC20 {
    constructor() ERC20("Plenty", "PLENTY") {
        _mint(msg.sender, type(uint256).max);
    }
}

/// A payee whose claims stay in the vault, for a signer of its payout.
contract BatteryTest is Base {
    event Kept(address indexed payer, address indexed payee, address indexed signer, uint128 amount);
    event SignerSet(
        address indexed payer, address indexed signer, uint128 granted, uint64 until, uint128 bond, uint128 gasPot
    );
    event Unjoined(address indexed payee, address indexed payout);

    /// Earns and spends; it never deposited anything.
    address internal owner = VM.addr(42);
    address internal node = VM.addr(41);
    uint256 internal constant DEVICE = 43;
    address internal device = VM.addr(DEVICE);

    function setUp() public override {
        super.setUp();
        _register(node, owner);
        VM.prank(owner);
        vault.join(node, device, _in(60 days));
    }

    function _granted() internal view returns (uint128) {
        return vault.signerOf(owner, device).granted;
    }

    /// A row of the owner's device for `to`.
    function _spend(address to, uint128 cumulative) internal returns (uint128) {
        PayVault.Claim[] memory rows = new PayVault.Claim[](1);
        rows[0] = _row(DEVICE, owner, to, cumulative);
        return vault.claim(to, rows);
    }

    function test_what_is_claimed_is_spent_without_a_deposit() public {
        uint256 held = token.balanceOf(address(vault));
        VM.expectEmit(true, true, true, true);
        emit Kept(owner, node, device, 10 ether);
        VM.expectEmit(true, true, true, true);
        emit SignerSet(owner, device, 10 ether, _in(60 days), 0, 0);
        _check(_claim(node, 10 ether) == 10 ether, "claimed");
        _check(token.balanceOf(address(vault)) == held, "nothing left the vault");
        _check(vault.freeOf(owner, device) == 10 ether, "the device can spend it");
        _check(vault.balanceOf(owner) == 0 && token.balanceOf(owner) == 0, "and it is nowhere else");
        _check(_spend(payee, 7 ether) == 7 ether, "it pays another node");
        _check(token.balanceOf(payout) == 7 ether, "which has it");
        _check(_claim(node, 12 ether) == 2 ether && vault.freeOf(owner, device) == 5 ether, "the next claim adds to it");
    }

    function test_only_the_payout_joins_and_unjoins() public {
        VM.prank(node);
        VM.expectPartialRevert(PayVault.NotPayout.selector);
        vault.join(node, device, _in(60 days));
        VM.prank(node);
        VM.expectPartialRevert(PayVault.NotPayout.selector);
        vault.unjoin(node);
        VM.startPrank(payout);
        VM.expectPartialRevert(PayVault.NotPayout.selector);
        vault.unjoin(node);
        VM.expectPartialRevert(PayVault.NotJoined.selector);
        vault.unjoin(payee);
        VM.stopPrank();
        address unknown = VM.addr(77);
        VM.prank(stranger);
        VM.expectPartialRevert(PayVault.NotPayout.selector);
        vault.join(unknown, device, _in(60 days)); // a payee that nobody registered
    }

    /// The same name of a signer under another payer is another signer.
    function test_a_payout_joins_to_a_signer_of_its_own() public {
        VM.prank(payout);
        vault.join(payee, signer, _in(60 days));
        _claim(payee, 10 ether);
        _check(vault.signerOf(payer, signer).granted == 100 ether, "the stranger's is what it was");
        _check(vault.signerOf(payout, signer).granted == 10 ether, "the payout's own has it");
    }

    function test_a_join_registers_and_extends_by_the_rules_of_a_grant() public {
        VM.startPrank(owner);
        VM.expectPartialRevert(PayVault.Unnamed.selector);
        vault.join(node, address(0), _in(60 days));
        VM.expectPartialRevert(PayVault.BadUntil.selector);
        vault.join(node, device, _in(59 days)); // it is not shortened
        VM.expectPartialRevert(PayVault.BadUntil.selector);
        vault.join(node, device, _in(366 days));
        vault.join(node, device, _in(90 days));
        _check(vault.signerOf(owner, device).until == _in(90 days), "longer");
        vault.endSigner(device);
        VM.expectPartialRevert(PayVault.SignerOver.selector);
        vault.join(node, device, _in(90 days));
        address fresh = VM.addr(44);
        vault.join(node, fresh, _in(90 days));
        VM.stopPrank();
        _claim(node, 3 ether);
        _check(vault.freeOf(owner, fresh) == 3 ether, "the new device has it");
    }

    function test_who_unjoined_is_paid_outside() public {
        _claim(node, 1 ether);
        VM.expectEmit(true, true, true, true);
        emit Unjoined(node, owner);
        VM.prank(owner);
        vault.unjoin(node);
        _claim(node, 3 ether);
        _check(token.balanceOf(owner) == 2 ether, "later claims leave the vault");
        _check(_granted() == 1 ether, "what was granted stays");
    }

    /// Else a machine that was sold would go on to pay who sold it.
    function test_a_payout_that_moves_is_joined_no_more() public {
        VM.prank(owner);
        vault.movePayout(node, stranger);
        _check(vault.joinedTo(node) == address(0), "not joined");
        _claim(node, 3 ether);
        _check(token.balanceOf(stranger) == 3 ether, "the new payout has it");
        _check(_granted() == 0 && vault.balanceOf(owner) == 0, "and the old one nothing");
    }

    // ---------------------------------------------------------------------------- whatever became of the signer

    function test_claims_for_an_ended_signer_are_balance() public {
        VM.prank(owner);
        vault.endSigner(device);
        _check(_claim(node, 4 ether) == 4 ether, "claimed");
        VM.warp(block.timestamp + 14 days);
        vault.thaw(owner, device);
        _check(_claim(node, 5 ether) == 1 ether, "claimed after the thaw");
        _check(_granted() == 0 && vault.balanceOf(owner) == 5 ether, "all of it is balance");
        VM.prank(owner);
        vault.withdraw(5 ether);
        _check(token.balanceOf(owner) == 5 ether, "which is withdrawn at once");
    }

    function test_claims_never_mend_an_overdraft() public {
        _claim(node, 10 ether);
        PayVault.Promise[] memory rows = new PayVault.Promise[](1);
        (uint256 key, address from) = (signerKey, payer);
        (signerKey, payer) = (DEVICE, owner);
        rows[0] = _promise(payee, 11 ether);
        (signerKey, payer) = (key, from);
        vault.proveOverdraft(owner, device, rows);
        _claim(node, 20 ether);
        _check(_granted() == 10 ether && vault.balanceOf(owner) == 10 ether, "in the case, it is balance");
        VM.warp(block.timestamp + 1 days);
        address[] memory payees = new address[](1);
        payees[0] = payee;
        vault.settleOverdraft(owner, device, payees);
        _check(token.balanceOf(payout) == 10 ether, "what was granted is shared");
        _claim(node, 21 ether);
        _check(_granted() == 10 ether && vault.balanceOf(owner) == 11 ether, "and so after it");
    }

    function test_a_grant_that_is_full_holds_up_no_claim() public {
        Plenty plenty = new Plenty();
        vault = new PayVault(plenty, timelock, GAS_SHARE, REWARD);
        separator = vault.domainSeparator();
        plenty.approve(address(vault), type(uint256).max);
        vault.deposit(owner, type(uint128).max);
        vault.deposit(payer, 100);
        _register(node, owner);
        VM.prank(payer);
        vault.setSigner(signer, 100, _in(30 days), 0, 0);
        VM.startPrank(owner);
        vault.setSigner(device, type(uint128).max - 5, _in(60 days), 0, 0);
        vault.join(node, device, _in(60 days));
        VM.stopPrank();
        _check(_claim(node, 5) == 5 && _granted() == type(uint128).max, "what fits is granted");
        _check(_claim(node, 40) == 35 && vault.balanceOf(owner) == 40, "the rest is balance");
    }

    // ------------------------------------------------------------------------------------- fees, gas, shares

    function test_the_fee_comes_off_and_the_gas_share_goes_along() public {
        VM.prank(timelock);
        vault.setFee(1000, stranger);
        VM.prank(payer);
        vault.endSigner(signer);
        _check(_claim(node, 10 ether) == 10 ether, "claimed");
        _check(_granted() == 9 ether + GAS_SHARE, "less the fee, and its gas");
        _check(vault.balanceOf(stranger) == 1 ether, "the fee");
    }

    function test_a_share_of_an_overdraft_is_kept_too() public {
        PayVault.Promise[] memory rows = new PayVault.Promise[](1);
        rows[0] = _promise(node, 120 ether);
        vault.proveOverdraft(payer, signer, rows);
        VM.warp(block.timestamp + 1 days);
        address[] memory payees = new address[](1);
        payees[0] = node;
        vault.settleOverdraft(payer, signer, payees);
        _check(_granted() == 100 ether, "the share is the device's");
    }

    // ------------------------------------------------------------------------------------------------ attacks

    /// A payer that pays itself in circles has what it had, less the fees: `granted` and `spent` grow alike.
    function test_circles_make_nothing() public {
        VM.prank(timelock);
        vault.setFee(100, stranger);
        _claim(node, 10 ether);
        uint256 held = token.balanceOf(address(vault));
        uint128 others = vault.balanceOf(payer);
        uint128 left = vault.freeOf(owner, device);
        uint128 total;
        for (uint256 i = 0; i < 20; ++i) {
            total += left;
            _check(_spend(node, total) == left, "its whole grant, to itself");
            left -= left / 100;
            _check(vault.freeOf(owner, device) == left, "less the fee");
        }
        _check(_granted() > 10 * left, "many times what it has");
        _check(token.balanceOf(address(vault)) == held && vault.balanceOf(payer) == others, "nobody paid for it");
        _check(_spend(payee, 2 * left) == left, "and it spends what it has");
        _check(token.balanceOf(payout) == left - left / 100, "once");
    }

    /// Circles raise the grant on paper. What the signer signed in them is public, and counts against it as before.
    function test_circles_hide_no_overdraft() public {
        _claim(node, 10 ether);
        _spend(node, 10 ether);
        _check(_granted() == 20 ether && vault.freeOf(owner, device) == 10 ether, "one circle");
        (signerKey, payer) = (DEVICE, owner);
        PayVault.Promise[] memory rows = new PayVault.Promise[](1);
        rows[0] = _promise(payee, 10 ether);
        VM.expectPartialRevert(PayVault.NoOverdraft.selector);
        vault.proveOverdraft(owner, device, rows);
        rows[0] = _promise(payee, 11 ether);
        vault.proveOverdraft(owner, device, rows);
        _check(vault.signerOf(owner, device).contested, "shown");
    }

    /// Two payouts that are joined to what the other's device pays.
    function test_a_ring_makes_nothing() public {
        VM.prank(payout);
        vault.join(payee, signer, _in(30 days));
        _claim(node, 10 ether);
        uint256 held = token.balanceOf(address(vault));
        uint128 total;
        for (uint256 i = 0; i < 10; ++i) {
            total += 10 ether;
            _check(_spend(payee, total) == 10 ether, "one way");
            PayVault.Claim[] memory rows = new PayVault.Claim[](1);
            rows[0] = _row(signerKey, payout, node, total);
            _check(vault.claim(node, rows) == 10 ether, "and back");
        }
        _check(vault.freeOf(owner, device) == 10 ether && vault.freeOf(payout, signer) == 0, "ten are ten");
        _check(token.balanceOf(address(vault)) == held, "and the vault holds them");
    }

    /// A batch is worth the same whoever is joined, and one bad row in it stops nothing.
    function test_a_batch_with_bad_rows_is_kept_whole() public {
        PayVault.Claim[] memory rows = new PayVault.Claim[](4);
        rows[0] = _row(signerKey, payer, node, 5 ether);
        rows[1] = _row(DEVICE, owner, node, 3 ether); // nothing is granted yet: the raise comes after the rows
        rows[2] = PayVault.Claim({payer: owner, cumulative: type(uint128).max, work: 0, r: 0, vs: 0});
        rows[3] = _row(signerKey, payer, node, 6 ether);
        _check(vault.claim(node, rows) == 6 ether, "the good rows");
        _check(_granted() == 6 ether && vault.freeOf(owner, device) == 6 ether, "are granted");
    }

    // -------------------------------------------------------------------------------------------------- fuzz

    /// Whatever the fee is and whatever became of the signer: what is claimed is in the grant, the balance or the fee.
    function testFuzz_nothing_is_lost_or_made(uint128[6] calldata claims, uint16 bps, uint8 what) public {
        VM.prank(timelock);
        vault.setFee(bps % 1001, stranger);
        uint256 held = token.balanceOf(address(vault));
        uint128 level;
        uint128 paid;
        for (uint256 i = 0; i < claims.length; ++i) {
            if (i == what % 8) {
                VM.prank(owner);
                vault.endSigner(device);
            }
            level += claims[i] % 30 ether;
            paid += _claim(node, level);
        }
        _check(paid == (level > 100 ether ? 100 ether : level), "every claim went through");
        _check(_granted() + vault.balanceOf(owner) + vault.balanceOf(stranger) == paid, "to the last unit");
        _check(token.balanceOf(address(vault)) == held, "and none of it left");
    }
}
