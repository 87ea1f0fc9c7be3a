// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

/// Where the digests of finals come from: the vault whose domain they are signed in.
interface ISigningDomain {
    function domainSeparator() external view returns (bytes32);
}

/// The one number that a vote sets here.
interface ISlashShare {
    function slashBps() external view returns (uint16);
}

/// What a provider puts down, and the one fault that needs no judge: two finals for the same job that say different
/// things. Whoever shows both gets a part.
///
/// It stands apart from the vault: a later version that knows more faults is entered by thawing here and staking there.
/// Nobody owns it. Nothing in it can take a stake but two signatures of the stake's own operator key.
contract ProviderStake is ReentrancyGuard {
    using SafeERC20 for IERC20;

    /// The on-chain form of a final receipt, signed by the provider's operator key.
    struct Final {
        bytes32 job;
        address node;
        bytes32 model;
        bytes32 output;
        uint32 outTokens;
        uint64 expiry;
    }

    struct Stake {
        uint128 amount;
        /// The part that is on its way out; it can still be slashed.
        uint128 thawing;
        uint64 thawsAt;
        uint32 faults;
    }

    struct Operator {
        address owner;
        /// From then on it is not the owner's any more; zero while it is in use.
        uint64 lapsesAt;
        bool slashed;
    }

    /// How long a stake stays after its owner wants it back, and a replaced key stays answerable.
    uint64 public constant THAW = 14 days;
    /// How long after a final's expiry it can be shown.
    uint64 public constant DISPUTE = 7 days;
    /// No fault costs more than this part of a stake, in parts of 10,000.
    uint16 public constant MAX_SLASH_BPS = 5000;
    /// Of a slash: burnt, to who showed the fault, and to the pool that pays audits.
    uint16 public constant BURNT_BPS = 5000;
    uint16 public constant REPORTER_BPS = 3000;
    address public constant BURNT = address(0xdEaD);

    bytes32 private constant FINAL = keccak256(
        "Final(bytes32 job,address node,bytes32 model,bytes32 output,uint32 outTokens,uint64 expiry)"
    );
    bytes32 private constant OPERATOR = keccak256("Operator(address stake,address owner)");

    IERC20 public immutable TOKEN;
    ISigningDomain public immutable DOMAIN;
    ISlashShare public immutable PARAMS;
    address public immutable AUDIT_POOL;

    mapping(address owner => Stake) public stakeOf;
    mapping(address operator => Operator) public operatorOf;
    /// Rewards wait here until they are taken, so that paying one can never hold up a slash.
    mapping(address who => uint128) public rewardOf;

    event Staked(address indexed owner, uint128 amount);
    event Thawing(address indexed owner, uint128 amount, uint64 thawsAt);
    event Unstaked(address indexed owner, uint128 amount);
    event OperatorSet(address indexed operator, address indexed owner);
    event OperatorRetired(address indexed operator, uint64 lapsesAt);
    event Slashed(address indexed owner, address indexed operator, bytes32 indexed job, uint128 amount, address reporter);
    event RewardTaken(address indexed who, uint128 amount);

    error Unnamed();
    error NothingArrived();
    error BadSignature();
    error OperatorKnown(address operator);
    error OperatorOver(address operator);
    error NotOwner(address operator);
    error StakeTooLow(uint128 has, uint128 needs);
    error TooEarly(uint64 from);
    error NoFault();
    error TooLate(uint64 until);

    constructor(IERC20 token, ISigningDomain domain, ISlashShare params, address auditPool) {
        require(address(token) != address(0) && address(domain) != address(0) && auditPool != address(0), Unnamed());
        TOKEN = token;
        DOMAIN = domain;
        PARAMS = params;
        AUDIT_POOL = auditPool;
    }

    /// Adds to the caller's stake.
    function stake(uint128 amount) external nonReentrant {
        uint256 before = TOKEN.balanceOf(address(this));
        TOKEN.safeTransferFrom(msg.sender, address(this), amount);
        require(amount != 0 && TOKEN.balanceOf(address(this)) - before == amount, NothingArrived());
        stakeOf[msg.sender].amount += amount;
        emit Staked(msg.sender, amount);
    }

    /// Binds an operator key to the caller's stake. The key itself agrees by a signature over this contract and the owner,
    /// so that nobody can bind, or use up, somebody else's.
    function setOperator(address operator, bytes32 r, bytes32 vs) external {
        require(operatorOf[operator].owner == address(0), OperatorKnown(operator));
        bytes32 digest = _typed(keccak256(abi.encode(OPERATOR, address(this), msg.sender)));
        require(_recover(digest, r, vs) == operator, BadSignature());
        operatorOf[operator] = Operator({owner: msg.sender, lapsesAt: 0, slashed: false});
        emit OperatorSet(operator, msg.sender);
    }

    /// Takes a key out of use. It stays answerable for a thaw.
    function retireOperator(address operator) external {
        Operator storage o = operatorOf[operator];
        require(o.owner == msg.sender, NotOwner(operator));
        require(o.lapsesAt == 0, OperatorOver(operator));
        o.lapsesAt = uint64(block.timestamp) + THAW;
        emit OperatorRetired(operator, o.lapsesAt);
    }

    /// Starts the way out for `amount` of the stake; what is on its way already begins again with it.
    function thaw(uint128 amount) external {
        Stake storage s = stakeOf[msg.sender];
        require(s.amount >= amount, StakeTooLow(s.amount, amount));
        s.amount -= amount;
        s.thawing += amount;
        s.thawsAt = uint64(block.timestamp) + THAW;
        emit Thawing(msg.sender, s.thawing, s.thawsAt);
    }

    /// Takes out what has thawed.
    function unstake() external nonReentrant {
        Stake storage s = stakeOf[msg.sender];
        uint128 amount = s.thawing;
        require(amount != 0, StakeTooLow(0, 1));
        require(block.timestamp >= s.thawsAt, TooEarly(s.thawsAt));
        s.thawing = 0;
        emit Unstaked(msg.sender, amount);
        TOKEN.safeTransfer(msg.sender, amount);
    }

    /// Shows two finals of one operator key for the same job and node, with the same count and different outputs. An
    /// honest node never makes two: it has the job's id on disk before it accepts, and the final before it sends it.
    function slash(Final calldata a, bytes32 ra, bytes32 vsa, Final calldata b, bytes32 rb, bytes32 vsb) external {
        require(a.job == b.job && a.node == b.node && a.outTokens == b.outTokens && a.output != b.output, NoFault());
        uint64 expiry = a.expiry < b.expiry ? a.expiry : b.expiry;
        require(block.timestamp <= uint256(expiry) + DISPUTE, TooLate(expiry));
        address operator = _recover(_finalDigest(a), ra, vsa);
        require(operator == _recover(_finalDigest(b), rb, vsb), BadSignature());
        Operator storage o = operatorOf[operator];
        require(o.owner != address(0), NotOwner(operator));
        require(!o.slashed && (o.lapsesAt == 0 || block.timestamp < o.lapsesAt), OperatorOver(operator));
        o.slashed = true;
        if (o.lapsesAt == 0) {
            o.lapsesAt = uint64(block.timestamp);
        }
        _slash(o.owner, operator, a.job);
    }

    function takeReward() external nonReentrant {
        uint128 amount = rewardOf[msg.sender];
        rewardOf[msg.sender] = 0;
        emit RewardTaken(msg.sender, amount);
        TOKEN.safeTransfer(msg.sender, amount);
    }

    function _slash(address owner, address operator, bytes32 job) private {
        Stake storage s = stakeOf[owner];
        uint256 bps = uint256(PARAMS.slashBps()) * (uint256(s.faults) + 1);
        if (bps > MAX_SLASH_BPS) bps = MAX_SLASH_BPS;
        s.faults += 1;
        // Half of two amounts fits one.
        // forge-lint: disable-next-line(unsafe-typecast)
        uint128 amount = uint128((uint256(s.amount) + s.thawing) * bps / 10_000);
        // What is on its way out goes first: leaving is no way around it.
        uint128 fromThawing = amount < s.thawing ? amount : s.thawing;
        s.thawing -= fromThawing;
        s.amount -= amount - fromThawing;
        // Parts of an amount fit where it does.
        // forge-lint: disable-next-line(unsafe-typecast)
        uint128 burnt = uint128(uint256(amount) * BURNT_BPS / 10_000);
        // forge-lint: disable-next-line(unsafe-typecast)
        uint128 reporter = uint128(uint256(amount) * REPORTER_BPS / 10_000);
        rewardOf[BURNT] += burnt;
        rewardOf[msg.sender] += reporter;
        rewardOf[AUDIT_POOL] += amount - burnt - reporter;
        emit Slashed(owner, operator, job, amount, msg.sender);
    }

    function _finalDigest(Final calldata f) private view returns (bytes32) {
        return _typed(keccak256(abi.encode(FINAL, f.job, f.node, f.model, f.output, f.outTokens, f.expiry)));
    }

    function _typed(bytes32 structHash) private view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", DOMAIN.domainSeparator(), structHash));
    }

    function _recover(bytes32 digest, bytes32 r, bytes32 vs) private pure returns (address signer) {
        ECDSA.RecoverError failed;
        (signer, failed,) = ECDSA.tryRecover(digest, r, vs);
        require(failed == ECDSA.RecoverError.NoError, BadSignature());
    }
}
