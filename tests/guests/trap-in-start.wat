;; Gives up before it has begun.
;; where: start
;; expect: unreachable
(func $begin (unreachable))
(start $begin)
