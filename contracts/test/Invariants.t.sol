// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Base, Vm} from "./Base.sol";
import {PayVault} from "../src/money/PayVault.sol";

/// Plays honest and dishonest signers, payees and passers-by against the vault, in any order.
contract Players is Base {
    uint256 internal constant SIGNERS = 3;
    uint256 internal constant PAYEES = 3;

    uint256[SIGNERS] internal keys = [uint256(101), 102, 103];
    /// What a signer signed for at most, by line; the first two never sign past their grant.
    mapping(uint256 signer => mapping(uint256 payee => uint128)) public signed;
    mapping(uint256 signer => mapping(uint256 payee => uint64)) public nonces;
    uint128 public redeemed;

    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < PAYEES; ++i) {
            _register(_payee(i), address(uint160(0x9000 + i)));
        }
    }

    function key(uint256 i) public view returns (uint256) {
        return keys[i % SIGNERS];
    }

    function _payee(uint256 i) internal pure returns (address) {
        return VM.addr(201 + (i % PAYEES));
    }

    function payeeOf(uint256 i) external pure returns (address) {
        return _payee(i);
    }

    function theVault() external view returns (PayVault) {
        return vault;
    }

    function thePayer() external view returns (address) {
        return payer;
    }

    function held() external view returns (uint256) {
        return token.balanceOf(address(vault));
    }

    // ------------------------------------------------------------------------------------------------ moves

    function fund(uint128 amount) external {
        amount = amount % 50 ether + 1;
        if (token.balanceOf(payer) < amount) token.faucet(payer);
        VM.prank(payer);
        vault.deposit(payer, amount);
    }

    function grant(uint256 who, uint128 add, uint64 life, uint128 bond) external {
        VM.prank(payer);
        vault.setSigner(VM.addr(key(who)), add % 40 ether, _in(life % 60 days + 1), bond % 2 ether, bond % 1 ether);
    }

    function end(uint256 who) external {
        VM.prank(payer);
        vault.endSigner(VM.addr(key(who)));
    }

    function takeOut(uint128 amount) external {
        VM.prank(payer);
        vault.withdraw(amount % 100 ether);
    }

    function wait(uint64 time) external {
        VM.warp(block.timestamp + (time % 10 days));
    }

    function redeem(uint256 who, uint256 to, uint128 more) external {
        (uint256 s, uint256 p) = (who % SIGNERS, to % PAYEES);
        more = more % 10 ether;
        if (s != 2 && promisedBy(s) + more > vault.signerOf(payer, VM.addr(keys[s])).granted) return;
        signed[s][p] += more;
        PayVault.Claim[] memory rows = new PayVault.Claim[](1);
        rows[0] = _row(keys[s], payer, _payee(p), signed[s][p]);
        redeemed += vault.claim(_payee(p), rows);
    }

    function hold(uint256 who, uint256 to, uint128 more, uint64 life) external {
        (uint256 s, uint256 p) = (who % SIGNERS, to % PAYEES);
        more = more % 10 ether;
        if (s != 2 && promisedBy(s) + more > vault.signerOf(payer, VM.addr(keys[s])).granted) return;
        // A reservation is a promise like a voucher of its level: an honest signer counts it the same.
        uint128 upto = signed[s][p] + more;
        if (s != 2) signed[s][p] = upto;
        uint64 until = _in(life % 8 days + 1);
        uint64 nonce = ++nonces[s][p];
        (bytes32 r, bytes32 vs) = _compact(keys[s], _reservationDigest(payer, _payee(p), upto, until, nonce));
        vault.reserve(payer, _payee(p), upto, until, nonce, r, vs);
    }

    function giveUp(uint256 who, uint256 to, bool byPayee) external {
        if (byPayee) VM.prank(_payee(to));
        vault.release(payer, VM.addr(key(who)), _payee(to));
    }

    /// Claims go to the payer itself, or to an account apart.
    function aim(uint256 to, bool home) external {
        address old = vault.payoutOf(_payee(to));
        VM.prank(old);
        vault.movePayout(_payee(to), home ? payer : address(uint160(0x9000 + (to % PAYEES))));
    }

    /// The payer earns what its own signers, or others, pay.
    function joinUp(uint256 who, uint256 to, uint64 life) external {
        this.aim(to, true);
        VM.prank(payer);
        vault.join(_payee(to), VM.addr(key(who)), _in(life % 60 days + 1));
    }

    function part(uint256 to) external {
        VM.prank(payer);
        vault.unjoin(_payee(to));
    }

    function back(uint256 who) external {
        vault.thaw(payer, VM.addr(key(who)));
    }

    function accuse(uint256 who, uint128[PAYEES] calldata amounts) external {
        uint256 s = who % SIGNERS;
        PayVault.Promise[] memory rows = new PayVault.Promise[](PAYEES);
        uint256 old = signerKey;
        signerKey = keys[s];
        for (uint256 p = 0; p < PAYEES; ++p) {
            // Of an honest signer there is nothing higher to be shown than what it signed.
            uint128 amount = s == 2 ? amounts[p] % 60 ether : signed[s][p];
            if (s == 2 && amount > signed[s][p]) signed[s][p] = amount;
            rows[p] = _promise(_payee(p), amount);
        }
        signerKey = old;
        for (uint256 i = 0; i < PAYEES; ++i) {
            for (uint256 j = i + 1; j < PAYEES; ++j) {
                if (rows[j].payee < rows[i].payee) (rows[i], rows[j]) = (rows[j], rows[i]);
            }
        }
        vault.proveOverdraft(payer, VM.addr(keys[s]), rows);
    }

    function decide(uint256 who) external {
        address[] memory payees = new address[](PAYEES);
        for (uint256 p = 0; p < PAYEES; ++p) {
            payees[p] = _payee(p);
        }
        vault.settleOverdraft(payer, VM.addr(key(who)), payees);
    }

    function promisedBy(uint256 s) public view returns (uint128 sum) {
        for (uint256 p = 0; p < PAYEES; ++p) {
            sum += signed[s][p];
        }
    }

    function stillPromised(uint256 s) external view returns (uint128 sum) {
        address who = VM.addr(keys[s]);
        for (uint256 p = 0; p < PAYEES; ++p) {
            uint128 claimed = vault.lineOf(payer, who, _payee(p)).claimed;
            if (signed[s][p] > claimed) sum += signed[s][p] - claimed;
        }
    }

    /// What was paid on all lines of a signer.
    function claimedOf(uint256 s) external view returns (uint128 sum) {
        for (uint256 p = 0; p < PAYEES; ++p) {
            sum += vault.lineOf(payer, VM.addr(keys[s]), _payee(p)).claimed;
        }
    }

    function owed() external view returns (uint256 sum) {
        sum = uint256(vault.balanceOf(payer)) + vault.balanceOf(vault.BURNT()) + vault.balanceOf(address(this))
            + vault.balanceOf(timelock);
        sum += _ofSigner(signer);
        for (uint256 s = 0; s < SIGNERS; ++s) {
            sum += _ofSigner(VM.addr(keys[s]));
        }
    }

    function _ofSigner(address who) internal view returns (uint256) {
        PayVault.Signer memory s = vault.signerOf(payer, who);
        return uint256(s.thawed ? 0 : s.granted - s.spent) + s.bond + s.gasPot;
    }
}

/// What holds after any sequence of moves.
contract InvariantsTest {
    Vm internal constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    Players internal players;

    error Broken(string what, uint256 a, uint256 b);

    function setUp() external {
        players = new Players();
        players.setUp();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(players);
    }

    function excludeSelectors() external view returns (FuzzSelector[] memory excluded) {
        excluded = new FuzzSelector[](1);
        excluded[0].addr = address(players);
        excluded[0].selectors = new bytes4[](1);
        excluded[0].selectors[0] = players.setUp.selector;
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    /// The vault holds all that it owes.
    function invariant_the_vault_is_solvent() external view {
        uint256 held = players.held();
        uint256 owed = players.owed();
        if (held < owed) revert Broken("solvent", held, owed);
    }

    /// No lock is larger than the grant's rest.
    function invariant_locks_are_covered() external view {
        for (uint256 i = 0; i < 3; ++i) {
            PayVault.Signer memory s = players.theVault().signerOf(players.thePayer(), _signer(i));
            if (s.spent > s.granted || s.locked > s.granted - s.spent) revert Broken("locks", s.locked, s.granted - s.spent);
            if (!s.contested && players.claimedOf(i) != s.spent) revert Broken("spent", players.claimedOf(i), s.spent);
        }
    }

    /// What an honest signer signed is there until its thaw: nobody else's doing can make it worthless.
    function invariant_an_honest_promise_is_covered() external view {
        for (uint256 i = 0; i < 2; ++i) {
            PayVault.Signer memory s = players.theVault().signerOf(players.thePayer(), _signer(i));
            if (s.thawed) continue;
            uint128 open = players.stillPromised(i);
            if (open > s.granted - s.spent) revert Broken("honest", open, s.granted - s.spent);
            if (s.contested) revert Broken("contested", open, s.granted);
        }
    }

    function _signer(uint256 i) internal view returns (address) {
        return VM.addr(players.key(i));
    }
}
