;; Calls itself for ever before it has begun.
;; where: start
;; expect: went deeper than the 512KiB of rule.guest.stack
(func $deeper (result i32) (i32.add (call $deeper) (i32.const 1)))
(func $begin (drop (call $deeper)))
(start $begin)
