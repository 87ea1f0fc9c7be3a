// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {TypedData} from "./TypedData.sol";

/// Deposit once, then pay anyone by signed vouchers, without a transaction per payee.
///
/// A payer moves part of its balance into the grant of a signer (one device's session key). The signer signs cumulative
/// vouchers to payees (operator keys of nodes), who redeem them against that grant in batches. A line is (payer, signer,
/// payee): its vouchers only grow, so the highest one says all.
///
/// What a voucher of an honest signer is worth is always there: the signer signs no more than it was granted. One that
/// does can be shown to have done so by its own signatures; then what is left of its grant is shared, and its bond burnt.
///
/// Nobody owns this contract. The vote's timelock sets the fee, within a bound, and nothing else. There is no pause, no
/// upgrade and no way to take or hold what is not one's own.
contract PayVault is TypedData, ReentrancyGuard {
    using SafeERC20 for IERC20;

    /// What a payee redeems for one line.
    /// `vs` is s with the parity of v in its top bit (EIP-2098).
    struct Claim {
        address payer;
        uint128 cumulative;
        bytes32 work;
        bytes32 r;
        bytes32 vs;
    }

    /// One promise of a signer, as evidence: a voucher, or (where `until` is not zero) a reservation that is still live. With an
    /// amount of zero it is the reservation that the line holds already, and needs no signature.
    struct Promise {
        address payee;
        uint128 amount;
        uint64 until;
        uint64 nonce;
        bytes32 work;
        bytes32 r;
        bytes32 vs;
    }

    /// All that a newcomer wants to do first, in one signed intent.
    struct Start {
        address payer;
        uint128 deposit;
        address signer;
        uint128 grant;
        uint64 until;
        uint128 bond;
        uint128 gasPot;
        uint128 relayerFee;
        uint256 nonce;
        uint256 deadline;
    }

    /// A permit of the token (EIP-2612) for the deposit.
    struct Permit {
        uint256 value;
        uint256 deadline;
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    struct Signer {
        /// What it may sign for in all; only grows.
        uint128 granted;
        /// What was paid out of it: on each line no more than was signed for.
        uint128 spent;
        /// The part of the rest that reservations hold.
        uint128 locked;
        /// From then on it signs nothing that counts.
        uint64 until;
        /// What was left was given back.
        bool thawed;
        /// An overdraft is shown: what is not reserved waits, and once it is decided, is shared and over.
        bool contested;
        uint128 bond;
        uint128 gasPot;
    }

    struct Line {
        uint128 claimed;
        /// The level that a reservation guarantees; it means nothing after `reservedUntil`.
        uint128 reservedUpto;
        uint64 reservedUntil;
        /// The nonce of the last reservation; each is taken once, and in order.
        uint64 nonce;
        /// Its share of the gas pot was paid.
        bool gasPaid;
    }

    struct Payee {
        /// Where its claims go.
        address payout;
        /// They stay in the vault. Beside the payout, so that who is not joined pays no gas for knowing it.
        bool joined;
        /// The signer of the payout whose grant rises with them.
        address signer;
    }

    struct Overdraft {
        /// Counts the cases of this signer: what was shown in one that was mended means nothing in the next.
        uint32 round;
        /// When the grant has to be mended; zero where there is no case.
        uint64 mendBy;
        /// After a mend the payees have a day to redeem before the next case can hold them up.
        uint64 calmUntil;
        address reporter;
        /// What was promised at least: what was spent when the case began, and what shown promises are above it.
        uint256 promised;
        /// The sum of what is open of them, beyond what reservations hold.
        uint256 open;
        /// What was there to share, once the case is decided.
        uint128 share;
        bool decided;
    }

    struct Shown {
        uint128 promised;
        uint128 open;
        uint128 paid;
    }

    /// How long a payee has, after a signer's end, to redeem its vouchers.
    uint64 public constant THAW = 14 days;
    /// The longest life of a signer.
    uint64 public constant MAX_LIFE = 365 days;
    /// The longest life of a reservation: shorter than the thaw, so that none is left when the grant is given back.
    uint64 public constant MAX_RESERVATION = 7 days;
    /// How long a payer has to mend an overdraft: one who did it by mistake gets a day.
    uint64 public constant MEND = 1 days;
    /// The largest fee on claims that a vote can set, in parts of 10,000.
    uint16 public constant MAX_FEE_BPS = 1000;
    /// Whose balance burnt tokens are: nobody has its key. They stay in the vault, so that burning cannot fail.
    address public constant BURNT = address(0xdEaD);

    bytes32 private constant VOUCHER =
        keccak256("Voucher(address payer,address payee,uint128 cumulative,bytes32 work)");
    bytes32 private constant RESERVATION =
        keccak256("Reservation(address payer,address payee,uint128 upto,uint64 until,uint64 nonce)");
    bytes32 private constant START = keccak256(
        "Start(address payer,uint128 deposit,address signer,uint128 grant,uint64 until,uint128 bond,uint128 gasPot,uint128 relayerFee,uint256 nonce,uint256 deadline)"
    );

    IERC20 public immutable TOKEN;
    /// The timelock of the vote: sets the fee.
    address public immutable FEE_SETTER;
    /// What a line gets out of the gas pot of a signer that has ended, once.
    uint128 public immutable GAS_SHARE;
    /// What who shows an overdraft gets out of the bond, half of it at most: a payer that shows itself loses the other half.
    uint128 public immutable REPORT_REWARD;

    uint16 public feeBps;
    address public feeTo;

    /// What is in the vault and in no grant, by payer.
    mapping(address payer => uint128) public balanceOf;
    mapping(address payer => mapping(address signer => Signer)) private _signers;
    mapping(bytes32 line => Line) private _lines;
    mapping(bytes32 grant => Overdraft) private _overdrafts;
    mapping(bytes32 lineOfRound => Shown) private _shown;
    mapping(address payee => Payee) private _payees;
    mapping(address payer => mapping(uint256 nonce => bool)) public startUsed;

    event Deposited(address indexed payer, address indexed from, uint128 amount);
    event Withdrawn(address indexed payer, uint128 amount);
    event SignerSet(
        address indexed payer, address indexed signer, uint128 granted, uint64 until, uint128 bond, uint128 gasPot
    );
    event SignerEnded(address indexed payer, address indexed signer, uint64 until);
    event GrantFreed(address indexed payer, address indexed signer, uint128 amount);
    event BondFreed(address indexed payer, address indexed signer, uint128 amount);
    event PayeeSet(address indexed payee, address indexed payout);
    event Joined(address indexed payee, address indexed payout, address indexed signer);
    event Unjoined(address indexed payee, address indexed payout);
    event Reserved(
        address indexed payer, address indexed payee, address indexed signer, uint128 upto, uint64 until, uint64 nonce
    );
    event Released(address indexed payer, address indexed payee, address indexed signer, uint64 nonce);
    event Claimed(
        address indexed payer, address indexed payee, address indexed signer, uint128 claimed, uint128 paid, bytes32 work
    );
    event GasShared(address indexed payer, address indexed payee, address indexed signer, uint128 amount);
    event PaidOut(address indexed payee, address indexed payout, uint128 amount, uint128 fee);
    /// What was paid out stayed in the vault: in the balance of `payer`, from which a [`SignerSet`] right after it takes it where the
    /// signer could be granted it.
    event Kept(address indexed payer, address indexed payee, address indexed signer, uint128 amount);
    event OverdraftShown(
        address indexed payer, address indexed signer, address indexed reporter, uint256 promised, uint64 mendBy
    );
    event OverdraftMended(address indexed payer, address indexed signer);
    event OverdraftDecided(address indexed payer, address indexed signer, uint128 share, uint128 burnt);
    event OverdraftPaid(address indexed payer, address indexed payee, address indexed signer, uint128 amount);
    event FeeSet(uint16 bps, address to);

    error Unnamed();
    error NothingArrived();
    error BalanceTooLow(uint128 has, uint128 needs);
    error BadUntil(uint64 until);
    error SignerUnknown(address payer, address signer);
    error SignerOver(address payer, address signer);
    error TooEarly(uint64 from);
    error CaseOpen(address payer, address signer);
    error PayeeUnknown(address payee);
    error PayeeKnown(address payee);
    error NotPayout(address payee);
    error NotPayee(address payee);
    error NotJoined(address payee);
    error NotFeeSetter();
    error FeeTooHigh(uint16 bps);
    error NonceUsed(uint256 nonce);
    error LineLocked(uint128 upto, uint64 until);
    error GrantTooLow(uint128 free, uint128 needs);
    error BadSignature();
    error OutOfOrder(address payee);
    error NoOverdraft(uint256 promised, uint128 granted);
    error Late(uint256 deadline);

    /// The token must move exactly what is asked: one that takes a fee on transfers is refused at the deposit.
    constructor(IERC20 token, address feeSetter, uint128 gasShare, uint128 reportReward) TypedData("DGC Pay Vault", "1") {
        require(address(token) != address(0) && feeSetter != address(0), Unnamed());
        TOKEN = token;
        FEE_SETTER = feeSetter;
        GAS_SHARE = gasShare;
        REPORT_REWARD = reportReward;
    }

    // ---------------------------------------------------------------------------------------------- what is there

    function signerOf(address payer, address signer) external view returns (Signer memory) {
        return _signers[payer][signer];
    }

    function lineOf(address payer, address signer, address payee) external view returns (Line memory) {
        return _lines[_lineId(payer, signer, payee)];
    }

    function overdraftOf(address payer, address signer) external view returns (Overdraft memory) {
        return _overdrafts[_grantId(payer, signer)];
    }

    /// Where the claims of a payee go; zero before it said so.
    function payoutOf(address payee) external view returns (address) {
        return _payees[payee].payout;
    }

    /// The signer of its payout whose grant rises with the claims of a payee; zero where they leave the vault.
    function joinedTo(address payee) external view returns (address) {
        return _payees[payee].signer;
    }

    /// What vouchers of this signer can still draw, beside what reservations hold. One that is over holds until somebody calls
    /// [`release`] or its own line claims: payees release such lines before they claim.
    function freeOf(address payer, address signer) public view returns (uint128) {
        return _free(_signers[payer][signer]);
    }

    // ----------------------------------------------------------------------------------------------------- payers

    /// Puts `amount` of the caller's tokens into the balance of `payer`.
    function deposit(address payer, uint128 amount) external nonReentrant {
        _deposit(payer, msg.sender, amount);
    }

    /// Deposit, and a first signer, in one transaction. `permit.value` of zero: the vault has its allowance already.
    function start(Start calldata intent, Permit calldata permit) external nonReentrant {
        require(msg.sender == intent.payer, BadSignature());
        require(intent.relayerFee == 0, BadSignature());
        require(!startUsed[intent.payer][intent.nonce], NonceUsed(intent.nonce));
        startUsed[intent.payer][intent.nonce] = true;
        _start(intent, permit);
    }

    /// The same for a payer without gas, brought by anyone, who gets the fee that the payer signed for.
    function startFor(Start calldata intent, Permit calldata permit, bytes32 r, bytes32 vs) external nonReentrant {
        require(block.timestamp <= intent.deadline, Late(intent.deadline));
        bytes32 digest = _typed(
            keccak256(
                abi.encode(
                    START,
                    intent.payer,
                    intent.deposit,
                    intent.signer,
                    intent.grant,
                    intent.until,
                    intent.bond,
                    intent.gasPot,
                    intent.relayerFee,
                    intent.nonce,
                    intent.deadline
                )
            )
        );
        require(_recover(digest, r, vs) == intent.payer, BadSignature());
        require(!startUsed[intent.payer][intent.nonce], NonceUsed(intent.nonce));
        startUsed[intent.payer][intent.nonce] = true;
        _start(intent, permit);
        if (intent.relayerFee != 0) {
            _take(intent.payer, intent.relayerFee);
            TOKEN.safeTransfer(msg.sender, intent.relayerFee);
        }
    }

    /// Gives `add` more to a signer of the caller, a longer life, a larger bond and gas pot. Nothing of it is taken back
    /// before the signer's end. A signer that has ended stays ended: a device that lost its counters gets a new one.
    function setSigner(address signer, uint128 add, uint64 until, uint128 bond, uint128 gasPot) external nonReentrant {
        _setSigner(msg.sender, signer, add, until, bond, gasPot);
    }

    /// Ends a signer of the caller now. What it signed before stays redeemable for [`THAW`].
    function endSigner(address signer) external {
        Signer storage s = _signers[msg.sender][signer];
        require(s.until != 0, SignerUnknown(msg.sender, signer));
        require(block.timestamp < s.until, SignerOver(msg.sender, signer));
        s.until = uint64(block.timestamp);
        emit SignerEnded(msg.sender, signer, s.until);
    }

    /// Gives a payer back what is due of an ended signer: the rest of the grant after one thaw, bond and gas pot after two.
    function thaw(address payer, address signer) external {
        Signer storage s = _signers[payer][signer];
        require(s.until != 0, SignerUnknown(payer, signer));
        require(block.timestamp >= s.until + THAW, TooEarly(s.until + THAW));
        require(!s.contested || _overdrafts[_grantId(payer, signer)].decided, CaseOpen(payer, signer));
        if (!s.thawed) {
            s.thawed = true;
            // Every reservation is over by now: none outlives the signer by more than MAX_RESERVATION.
            // What was given back is not spent: a promise that nobody redeemed in time is no overdraft.
            uint128 left = s.granted - s.spent;
            s.locked = 0;
            balanceOf[payer] += left;
            emit GrantFreed(payer, signer, left);
        }
        if (block.timestamp >= s.until + 2 * THAW && s.bond + s.gasPot != 0) {
            uint128 amount = s.bond + s.gasPot;
            s.bond = 0;
            s.gasPot = 0;
            balanceOf[payer] += amount;
            emit BondFreed(payer, signer, amount);
        }
    }

    /// Takes out what is in no grant, at once.
    function withdraw(uint128 amount) external nonReentrant {
        _take(msg.sender, amount);
        emit Withdrawn(msg.sender, amount);
        TOKEN.safeTransfer(msg.sender, amount);
    }

    // ----------------------------------------------------------------------------------------------------- payees

    /// Says where the claims of a payee go: the payee's own key says it once, then the payout alone can change it. So who
    /// steals the key of a node gets nothing of what it earns.
    function registerPayee(address payout) external {
        require(payout != address(0), Unnamed());
        Payee storage p = _payees[msg.sender];
        require(p.payout == address(0), PayeeKnown(msg.sender));
        p.payout = payout;
        emit PayeeSet(msg.sender, payout);
    }

    function movePayout(address payee, address payout) external {
        require(payout != address(0), Unnamed());
        Payee storage p = _ofPayout(payee);
        // Whoever is paid from now on decides anew.
        if (p.joined) _unjoin(payee, p);
        p.payout = payout;
        emit PayeeSet(payee, payout);
    }

    /// Keeps what the claims of a payee bring in the vault, where a signer of its payout spends it at once: each claim raises that
    /// signer's grant, and where it cannot, the payout's balance. The signer is registered, or its life made longer, by the same rules
    /// as in [`setSigner`], so that a payout which never deposited anything can spend what it earns.
    ///
    /// The payout joins to a signer of its own and to nobody else's: what is granted to a stranger could not be taken back.
    function join(address payee, address signer, uint64 until) external nonReentrant {
        Payee storage p = _ofPayout(payee);
        _setSigner(msg.sender, signer, 0, until, 0, 0);
        p.joined = true;
        p.signer = signer;
        emit Joined(payee, msg.sender, signer);
    }

    /// Lets later claims leave the vault again. What was granted stays granted until its signer's end.
    function unjoin(address payee) external {
        Payee storage p = _ofPayout(payee);
        require(p.joined, NotJoined(payee));
        _unjoin(payee, p);
    }

    /// Sets a level of a line that no other line can take: what it is above what was claimed is held for this payee alone
    /// until `until`, whatever happens to the signer.
    function reserve(address payer, address payee, uint128 upto, uint64 until, uint64 nonce, bytes32 r, bytes32 vs)
        external
    {
        address signer = _recover(_reservationDigest(payer, payee, upto, until, nonce), r, vs);
        Signer storage s = _signers[payer][signer];
        require(s.until != 0, SignerUnknown(payer, signer));
        require(block.timestamp < s.until, SignerOver(payer, signer));
        require(!s.contested, CaseOpen(payer, signer));
        require(until > block.timestamp && until <= block.timestamp + MAX_RESERVATION, BadUntil(until));
        Line storage line = _lines[_lineId(payer, signer, payee)];
        require(nonce > line.nonce, NonceUsed(nonce));
        if (line.reservedUntil > block.timestamp) {
            // A live one is only ever raised: whoever brings an older one late cannot shrink it.
            require(upto >= line.reservedUpto && until >= line.reservedUntil, LineLocked(line.reservedUpto, line.reservedUntil));
        }
        _unlock(s, line);
        uint128 needs = upto > line.claimed ? upto - line.claimed : 0;
        uint128 free = _free(s);
        require(needs <= free, GrantTooLow(free, needs));
        s.locked += needs;
        line.reservedUpto = upto;
        line.reservedUntil = until;
        line.nonce = nonce;
        emit Reserved(payer, payee, signer, upto, until, nonce);
    }

    /// Gives a reservation up: the payee at any time, anyone once it is over. The event names the line's nonce: what a signer signed
    /// after that one is not given up by it.
    function release(address payer, address signer, address payee) external {
        Line storage line = _lines[_lineId(payer, signer, payee)];
        require(msg.sender == payee || block.timestamp >= line.reservedUntil, NotPayee(payee));
        Signer storage s = _signers[payer][signer];
        _unlock(s, line);
        line.reservedUpto = 0;
        line.reservedUntil = 0;
        emit Released(payer, payee, signer, line.nonce);
    }

    /// Redeems vouchers of many lines of one payee in one transfer to its payout, or within the vault where that joined it. Anyone
    /// may bring them. A row that cannot be redeemed is passed over; one whose grant is short gets what there is, and can come again.
    function claim(address payee, Claim[] calldata rows) external nonReentrant returns (uint128 paid) {
        Payee storage p = _payees[payee];
        require(p.payout != address(0), PayeeUnknown(payee));
        uint128 gasShares;
        for (uint256 i = 0; i < rows.length; ++i) {
            (uint128 forWork, uint128 forGas) = _claimRow(payee, rows[i]);
            paid += forWork;
            gasShares += forGas;
        }
        _payOut(payee, p, paid, gasShares);
    }

    // --------------------------------------------------------------------------------------------------- overdraft

    /// Shows by its own signatures that a signer promised more than it was granted. From then on its unreserved grant is
    /// held for a day in which the payer may raise it; further promises of the same signer may be added in that time.
    /// Rows are sorted by payee, one each.
    ///
    /// What was paid out was signed for, whoever brought it: it counts without its rows. So a signer that spent its grant over
    /// thousands of lines is shown by a single promise that is left over.
    function proveOverdraft(address payer, address signer, Promise[] calldata rows) external {
        Signer storage s = _signers[payer][signer];
        require(s.until != 0, SignerUnknown(payer, signer));
        require(block.timestamp < s.until + 2 * THAW, SignerOver(payer, signer));
        Overdraft storage od = _overdrafts[_grantId(payer, signer)];
        require(!od.decided, CaseOpen(payer, signer));
        require(block.timestamp >= od.calmUntil, TooEarly(od.calmUntil));
        require(od.mendBy == 0 || block.timestamp < od.mendBy, Late(od.mendBy));
        if (od.mendBy == 0) od.promised = s.spent;
        address before = address(0);
        for (uint256 i = 0; i < rows.length; ++i) {
            Promise calldata row = rows[i];
            require(row.payee > before, OutOfOrder(row.payee));
            before = row.payee;
            _show(od, payer, signer, row);
        }
        require(od.promised > s.granted, NoOverdraft(od.promised, s.granted));
        if (od.mendBy == 0) {
            od.mendBy = uint64(block.timestamp) + MEND;
            od.reporter = msg.sender;
            s.contested = true;
        }
        emit OverdraftShown(payer, signer, od.reporter, od.promised, od.mendBy);
    }

    /// Decides a case whose day is over, or that the payer mended, and pays the named lines their shares.
    function settleOverdraft(address payer, address signer, address[] calldata payees) external nonReentrant {
        Overdraft storage od = _overdrafts[_grantId(payer, signer)];
        // Mended already, perhaps a moment ago.
        if (od.mendBy == 0) return;
        Signer storage s = _signers[payer][signer];
        if (!od.decided) {
            if (s.granted >= od.promised && !s.thawed) {
                _mended(payer, signer, s, od);
                return;
            }
            require(block.timestamp >= od.mendBy, TooEarly(od.mendBy));
            _decide(payer, signer, s, od);
        }
        _share(s, od);
        for (uint256 i = 0; i < payees.length; ++i) {
            _payShare(payer, signer, payees[i], od);
        }
    }

    // -------------------------------------------------------------------------------------------------------- vote

    /// Sets the fee on what claims pay, in parts of 10,000.
    function setFee(uint16 bps, address to) external {
        require(msg.sender == FEE_SETTER, NotFeeSetter());
        require(bps <= MAX_FEE_BPS, FeeTooHigh(bps));
        require(bps == 0 || to != address(0), Unnamed());
        feeBps = bps;
        feeTo = to;
        emit FeeSet(bps, to);
    }

    // ------------------------------------------------------------------------------------------------------ inside

    function _start(Start calldata intent, Permit calldata permit) private {
        if (permit.value != 0) {
            // Somebody may have used the permit already, to make this fail: then the allowance is there, which is what counts.
            try IERC20Permit(address(TOKEN)).permit(
                intent.payer, address(this), permit.value, permit.deadline, permit.v, permit.r, permit.s
            ) {} catch {}
        }
        if (intent.deposit != 0) {
            _deposit(intent.payer, intent.payer, intent.deposit);
        }
        if (intent.signer != address(0)) {
            _setSigner(intent.payer, intent.signer, intent.grant, intent.until, intent.bond, intent.gasPot);
        }
    }

    function _deposit(address payer, address from, uint128 amount) private {
        require(payer != address(0), Unnamed());
        uint256 before = TOKEN.balanceOf(address(this));
        TOKEN.safeTransferFrom(from, address(this), amount);
        // Grants are promises to the last unit: a token that keeps a part of a transfer would make them hollow.
        require(amount != 0 && TOKEN.balanceOf(address(this)) - before == amount, NothingArrived());
        balanceOf[payer] += amount;
        emit Deposited(payer, from, amount);
    }

    function _take(address payer, uint128 amount) private {
        uint128 has = balanceOf[payer];
        require(has >= amount, BalanceTooLow(has, amount));
        balanceOf[payer] = has - amount;
    }

    function _setSigner(address payer, address signer, uint128 add, uint64 until, uint128 bond, uint128 gasPot) private {
        require(signer != address(0), Unnamed());
        Signer storage s = _signers[payer][signer];
        if (s.until == 0 || block.timestamp < s.until) {
            require(
                until >= s.until && until > block.timestamp && until <= block.timestamp + MAX_LIFE, BadUntil(until)
            );
            s.until = until;
        } else {
            // After its end a grant is raised for one reason alone: to mend an overdraft that was shown.
            require(_mending(payer, signer, s), SignerOver(payer, signer));
        }
        _take(payer, add + bond + gasPot);
        s.granted += add;
        s.bond += bond;
        s.gasPot += gasPot;
        emit SignerSet(payer, signer, s.granted, s.until, s.bond, s.gasPot);
        if (s.contested && !s.thawed) {
            // What is mended is over at once: a row held back to the last second begins a day of its own.
            Overdraft storage od = _overdrafts[_grantId(payer, signer)];
            if (!od.decided && s.granted >= od.promised) _mended(payer, signer, s, od);
        }
    }

    function _mending(address payer, address signer, Signer storage s) private view returns (bool) {
        Overdraft storage od = _overdrafts[_grantId(payer, signer)];
        return s.contested && !s.thawed && !od.decided && block.timestamp < od.mendBy;
    }

    function _claimRow(address payee, Claim calldata row) private returns (uint128 paid, uint128 forGas) {
        address signer = _tryRecover(_voucherDigest(row.payer, payee, row.cumulative, row.work), row.r, row.vs);
        if (signer == address(0)) return (0, 0);
        Signer storage s = _signers[row.payer][signer];
        if (s.until == 0) return (0, 0);
        Line storage line = _lines[_lineId(row.payer, signer, payee)];
        paid = _draw(s, line, row.cumulative);
        if (paid == 0) return (0, 0);
        emit Claimed(row.payer, payee, signer, line.claimed, paid, row.work);
        if (s.until <= block.timestamp && !line.gasPaid) {
            forGas = s.gasPot < GAS_SHARE ? s.gasPot : GAS_SHARE;
            if (forGas != 0) {
                line.gasPaid = true;
                s.gasPot -= forGas;
                emit GasShared(row.payer, payee, signer, forGas);
            }
        }
    }

    /// Moves a line up to `cumulative`, as far as its reservation and then the grant reach.
    function _draw(Signer storage s, Line storage line, uint128 cumulative) private returns (uint128 paid) {
        uint128 claimed = line.claimed;
        if (cumulative <= claimed) return 0;
        uint128 due = cumulative - claimed;
        uint128 held = line.reservedUpto > claimed ? line.reservedUpto - claimed : 0;
        if (held != 0 && line.reservedUntil <= block.timestamp) {
            _unlock(s, line);
            line.reservedUpto = 0;
            line.reservedUntil = 0;
            held = 0;
        }
        // Its own reservation first, whatever else is true of the signer. It is spent before it is asked what is free: a part that
        // is neither locked nor spent would be paid twice.
        paid = due < held ? due : held;
        if (paid != 0) {
            s.locked -= paid;
            s.spent += paid;
        }
        if (paid < due && _open(s)) {
            uint128 free = _free(s);
            uint128 more = due - paid < free ? due - paid : free;
            s.spent += more;
            paid += more;
        }
        if (paid == 0) return 0;
        line.claimed = claimed + paid;
    }

    /// Whether vouchers draw on what is not reserved: not once the grant was given back or is to be shared.
    function _open(Signer storage s) private view returns (bool) {
        return !s.thawed && !s.contested && block.timestamp < s.until + THAW;
    }

    function _free(Signer storage s) private view returns (uint128) {
        return s.thawed ? 0 : s.granted - s.spent - s.locked;
    }

    /// Takes what a line's reservation holds out of the signer's lock.
    function _unlock(Signer storage s, Line storage line) private {
        if (line.reservedUpto > line.claimed && !s.thawed) {
            s.locked -= line.reservedUpto - line.claimed;
        }
    }

    function _payOut(address payee, Payee storage p, uint128 forWork, uint128 forGas) private {
        if (forWork + forGas == 0) return;
        // A tenth at most of what fits.
        // forge-lint: disable-next-line(unsafe-typecast)
        uint128 fee = uint128((uint256(forWork) * feeBps) / 10_000);
        uint128 rest = forWork + forGas - fee;
        address payout = p.payout;
        emit PaidOut(payee, payout, rest, fee);
        // The fee is a balance and no transfer: an address that cannot be paid must not hold up anybody's claim.
        if (fee != 0) balanceOf[feeTo] += fee;
        if (p.joined) {
            _keep(payout, payee, p.signer, rest);
        } else {
            TOKEN.safeTransfer(payout, rest);
        }
    }

    /// Puts what a payee was paid into the grant of its payout's signer, or into the payout's balance alone where the signer has ended,
    /// is contested, or holds more than fits: nothing that became of a signer holds up a claim.
    function _keep(address payer, address payee, address signer, uint128 amount) private {
        emit Kept(payer, payee, signer, amount);
        Signer storage s = _signers[payer][signer];
        if (s.contested || block.timestamp >= s.until || amount > type(uint128).max - s.granted) {
            balanceOf[payer] += amount;
            return;
        }
        s.granted += amount;
        emit SignerSet(payer, signer, s.granted, s.until, s.bond, s.gasPot);
    }

    /// A payee of the caller, who is paid what it claims.
    function _ofPayout(address payee) private view returns (Payee storage p) {
        p = _payees[payee];
        require(p.payout == msg.sender, NotPayout(payee));
    }

    function _unjoin(address payee, Payee storage p) private {
        p.joined = false;
        p.signer = address(0);
        emit Unjoined(payee, msg.sender);
    }

    function _show(Overdraft storage od, address payer, address signer, Promise calldata row) private {
        if (row.amount != 0) {
            bytes32 digest = row.until == 0
                ? _voucherDigest(payer, row.payee, row.amount, row.work)
                : _reservationDigest(payer, row.payee, row.amount, row.until, row.nonce);
            require(_recover(digest, row.r, row.vs) == signer, BadSignature());
        }
        require(row.until == 0 || row.until > block.timestamp, BadUntil(row.until));
        bytes32 id = _lineId(payer, signer, row.payee);
        Line storage line = _lines[id];
        uint128 held = line.reservedUntil > block.timestamp ? line.reservedUpto : 0;
        // A reservation that was brought before counts as far as it is still live, and one that was given up not at all.
        uint128 amount = row.until != 0 && row.nonce <= line.nonce ? 0 : row.amount;
        uint128 promised = amount > held ? amount : held;
        Shown storage shown = _shown[_shownId(id, od.round)];
        // What was claimed before it was shown counts as spent.
        uint128 counted = shown.promised == 0 ? line.claimed : shown.promised;
        if (promised <= counted) return;
        uint128 covered = held > line.claimed ? held : line.claimed;
        uint128 open = promised > covered ? promised - covered : 0;
        od.promised += promised - counted;
        od.open = od.open + open - shown.open;
        shown.promised = promised;
        shown.open = open;
    }

    function _mended(address payer, address signer, Signer storage s, Overdraft storage od) private {
        _overdrafts[_grantId(payer, signer)] =
            Overdraft({
                round: od.round + 1,
                mendBy: 0,
                calmUntil: uint64(block.timestamp) + MEND,
                reporter: address(0),
                promised: 0,
                open: 0,
                share: 0,
                decided: false
            });
        s.contested = false;
        // Payees waited for this: their time to redeem begins again.
        if (s.until < block.timestamp) s.until = uint64(block.timestamp);
        emit OverdraftMended(payer, signer);
    }

    function _decide(address payer, address signer, Signer storage s, Overdraft storage od) private {
        od.decided = true;
        // A thaw from now, also for locks that are over and were not given up yet.
        if (!s.thawed) s.until = uint64(block.timestamp);
        uint128 share = _share(s, od);
        uint128 reward = s.bond / 2 < REPORT_REWARD ? s.bond / 2 : REPORT_REWARD;
        uint128 burnt = s.bond - reward;
        s.bond = 0;
        balanceOf[od.reporter] += reward;
        balanceOf[BURNT] += burnt;
        emit OverdraftDecided(payer, signer, share, burnt);
    }

    /// Puts what is free into the share of a decided case: also what a reservation held that was over or given up later.
    function _share(Signer storage s, Overdraft storage od) private returns (uint128 more) {
        if (s.thawed) return 0;
        uint128 free = _free(s);
        uint256 wants = od.open - od.share;
        // Taken only where it is no more than what is free.
        // forge-lint: disable-next-line(unsafe-typecast)
        more = free < wants ? free : uint128(wants);
        od.share += more;
        s.spent += more;
    }

    function _payShare(address payer, address signer, address payee, Overdraft storage od) private {
        Shown storage shown = _shown[_shownId(_lineId(payer, signer, payee), od.round)];
        Payee storage p = _payees[payee];
        if (shown.open == 0 || p.payout == address(0)) return;
        // `claimed` stays: what a reservation holds is drawn beside this.
        // A part of the share: `shown.open` is one of the terms of `od.open`.
        // forge-lint: disable-next-line(unsafe-typecast)
        uint128 amount = uint128((uint256(od.share) * shown.open) / od.open) - shown.paid;
        if (amount == 0) return;
        shown.paid += amount;
        emit OverdraftPaid(payer, payee, signer, amount);
        _payOut(payee, p, amount, 0);
    }

    function _voucherDigest(address payer, address payee, uint128 cumulative, bytes32 work)
        private
        view
        returns (bytes32)
    {
        return _typed(keccak256(abi.encode(VOUCHER, payer, payee, cumulative, work)));
    }

    function _reservationDigest(address payer, address payee, uint128 upto, uint64 until, uint64 nonce)
        private
        view
        returns (bytes32)
    {
        return _typed(keccak256(abi.encode(RESERVATION, payer, payee, upto, until, nonce)));
    }

    function _tryRecover(bytes32 digest, bytes32 r, bytes32 vs) private pure returns (address) {
        (address signer, ECDSA.RecoverError failed,) = ECDSA.tryRecover(digest, r, vs);
        return failed == ECDSA.RecoverError.NoError ? signer : address(0);
    }

    function _recover(bytes32 digest, bytes32 r, bytes32 vs) private pure returns (address signer) {
        signer = _tryRecover(digest, r, vs);
        require(signer != address(0), BadSignature());
    }

    function _grantId(address payer, address signer) private pure returns (bytes32) {
        return keccak256(abi.encode(payer, signer));
    }

    function _shownId(bytes32 line, uint32 round) private pure returns (bytes32) {
        return keccak256(abi.encode(line, round));
    }

    function _lineId(address payer, address signer, address payee) private pure returns (bytes32) {
        return keccak256(abi.encode(payer, signer, payee));
    }
}
